package peers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// fixedAnswer is as long as a real answer.
const fixedAnswer = `<?xml version="1.0" encoding="UTF-8"?><Response><Dial callerId="+16900000001" answerOnBridge="true"` +
	` timeout="30" timeLimit="3600"><Number>+12900000000</Number></Dial></Response>`

// bare answers without looking at the request.
func bare(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/xml")
	ctx.SetBodyString(fixedAnswer)
}

// newNaive is callmask's own codec before one plain command per request.
func newNaive(base context.Context, cfg Config, client *redis.Client, keys *seal.Keyset) (fasthttp.RequestHandler, error) {
	codec, err := twilio.New(twilio.Config{
		AccountSID: world.AccountSID, AuthTokens: []string{world.AuthToken}, PublicURL: world.PublicURL,
	})
	if err != nil {
		return nil, err
	}
	return func(ctx *fasthttp.RequestCtx) {
		var call vn.Call
		if err := codec.Decode(ctx, nil, &call); err != nil {
			ctx.SetStatusCode(http.StatusForbidden)
			return
		}
		d := vn.Decision{RingTimeout: world.RingTimeout * time.Second, MaxDuration: world.MaxDuration * time.Second}
		token := keys.Primary().Token(call.Calling)
		deadline, cancel := context.WithTimeout(base, redisTimeout)
		defer cancel()
		value, err := client.HGet(deadline, cfg.Prefix+call.Called.Digits(), string(token[:])).Bytes()
		if err == nil {
			d.Destination, d.CallerID, err = open(keys, token, value)
		}
		switch {
		case errors.Is(err, redis.Nil):
			d.Reason = vn.CallerNotAllowed
		case err != nil:
			d.Reason = vn.Unavailable
		}
		body, contentType, status := codec.AppendAnswer(nil, &call, &d)
		ctx.SetStatusCode(status)
		ctx.SetContentType(contentType)
		ctx.SetBody(body)
	}, nil
}
