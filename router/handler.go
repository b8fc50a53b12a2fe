package router

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const (
	resolvePath    = "/v1/resolve"
	carriersPrefix = "/v1/carriers/"
)

var cacheControl, noStore = []byte(fasthttp.HeaderCacheControl), []byte("no-store")

// handle answers one request. It keeps nothing of ctx.
func (r *Router) handle(ctx *fasthttp.RequestCtx) {
	start := time.Now()
	r.inFlight.Add(1)
	s := r.states.Get().(*state) //nolint:errcheck // the pool makes nothing else
	defer r.done(ctx, s)
	if r.draining.Load() {
		ctx.SetConnectionClose()
	}

	if ctx.Request.Header.ConnectionClose() && twoLengths(ctx.Request.Header.RawHeaders()) {
		ctx.SetConnectionClose()
		r.turnAway(ctx, malformed)
		return
	}

	// The path as it was sent: what looks different is a different path, and a
	// secret in it is compared byte by byte.
	path := ctx.URI().PathOriginal()
	if string(path) == resolvePath {
		r.serveResolve(ctx, s, start)
		return
	}
	c, verb, secret := r.carrierOf(path)
	if c == nil {
		r.turnAway(ctx, notFound)
		return
	}
	r.serveCarrier(ctx, c, verb, secret, s, start)
}

// twoLengths tells whether the headers hold both a Content-Length and a
// Transfer-Encoding. fasthttp goes by the second and closes the connection; a proxy
// before us may go by the first, and who disagrees about where a request ends can be
// made to take part of one caller's request for another's (RFC 9112 section 6.3).
func twoLengths(headers []byte) bool {
	length, encoding := false, false
	for len(headers) > 0 {
		var line []byte
		line, headers, _ = bytes.Cut(headers, []byte{'\n'})
		key, _, _ := bytes.Cut(line, []byte{':'})
		length = length || bytes.EqualFold(key, []byte("Content-Length"))
		encoding = encoding || bytes.EqualFold(key, []byte("Transfer-Encoding"))
	}
	return length && encoding
}

// carrierOf splits /v1/carriers/{name}/{verb} and /v1/carriers/{name}/{verb}/{secret}.
// The carrier is nil for any other path and for an unknown name.
func (r *Router) carrierOf(path []byte) (c *carrier, verb, secret []byte) {
	rest, ok := bytes.CutPrefix(path, []byte(carriersPrefix))
	if !ok {
		return nil, nil, nil
	}
	name, rest, _ := bytes.Cut(rest, []byte{'/'})
	verb, secret, more := bytes.Cut(rest, []byte{'/'})
	if more && (len(secret) == 0 || bytes.IndexByte(secret, '/') >= 0) {
		return nil, nil, nil
	}
	return r.carriers[string(name)], verb, secret
}

// done ends a request: it gives the state back and turns a panic into a 500, so
// that one call's bug does not end every other call.
func (r *Router) done(ctx *fasthttp.RequestCtx, s *state) {
	r.inFlight.Add(-1)
	p := recover()
	if p == nil {
		s.reset()
		r.states.Put(s)
		return
	}
	r.metrics.panics.Inc()
	// Neither the panic's value nor a stack with arguments: both may hold a number.
	r.log.Error().Str("panic", fmt.Sprintf("%T", p)).Array("stack", callers(3)).Msg("router: a request panicked")
	ctx.Response.Reset()
	ctx.SetStatusCode(fasthttp.StatusInternalServerError)
}

// serveCarrier answers a carrier's webhook.
func (r *Router) serveCarrier(ctx *fasthttp.RequestCtx, c *carrier, verb, secret []byte, s *state, start time.Time) {
	voice, sms, status := string(verb) == "voice", string(verb) == "sms", string(verb) == "status"
	switch {
	case !voice && !sms && !status:
		r.turnAway(ctx, notFound)
	case !ctx.IsPost() && !ctx.IsGet():
		r.turnAway(ctx, methodNotAllowed)
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET, POST")
	case sms:
		r.serveMessage(ctx, c, secret, s, start)
	case status:
		r.serveProgress(ctx, c, secret, s)
	case r.authentic(ctx, c, c.Codec.Decode(ctx, secret, &s.call)):
		r.decide(ctx, c, s, start)
	}
}

// serveResolve answers the JSON contract: the first resolver that accepts the
// request's token is the one who asks.
func (r *Router) serveResolve(ctx *fasthttp.RequestCtx, s *state, start time.Time) {
	if !ctx.IsGet() {
		r.turnAway(ctx, methodNotAllowed)
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET")
		return
	}
	for _, c := range r.resolvers {
		err := c.Codec.Decode(ctx, nil, &s.call)
		switch {
		case err == nil:
			r.decide(ctx, c, s, start)
			return
		case !errors.Is(err, vn.ErrForbidden):
			r.refuseMalformed(ctx, c, err)
			return
		}
		s.call = vn.Call{}
	}
	r.metrics.unauthorized.Inc()
	ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
	unauthorized.write(ctx)
}

// decide resolves s.call, writes the answer and tells the recorder.
func (r *Router) decide(ctx *fasthttp.RequestCtx, c *carrier, s *state, start time.Time) {
	r.resolve(c, s, start, r.limiter)
	body, contentType, status := c.Codec.AppendAnswer(s.answer[:0], &s.call, &s.decision)
	respond(ctx, s, body, contentType, status)
	took := time.Since(start)
	c.decisions[s.decision.Reason].Inc()
	r.metrics.duration.Observe(took.Seconds())
	if r.recorder != nil {
		r.recorder.Record(c.Name, &s.call, &s.decision, took)
	}
}

// authentic writes the answer to a request that a codec refused to read.
func (r *Router) authentic(ctx *fasthttp.RequestCtx, c *carrier, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, vn.ErrForbidden):
		c.forbidden.Inc()
		ctx.SetStatusCode(fasthttp.StatusForbidden)
	default:
		r.refuseMalformed(ctx, c, err)
	}
	return false
}

// respond writes a codec's answer, which was appended to s.answer[:0]. The response
// takes the buffer, for it is sent after the handler returns, and gives its own one
// for the next answer.
func respond(ctx *fasthttp.RequestCtx, s *state, body []byte, contentType string, status int) {
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType(contentType)
	ctx.Response.Header.SetCanonical(cacheControl, noStore)
	s.answer = ctx.Response.SwapBody(body)
}

// refuseUnsupported answers what a carrier of this kind does not send. Who it is comes
// first: a stranger does not learn the kind.
func (r *Router) refuseUnsupported(ctx *fasthttp.RequestCtx, c *carrier, secret []byte, s *state) {
	if errors.Is(c.Codec.Decode(ctx, secret, &s.call), vn.ErrForbidden) {
		c.forbidden.Inc()
		ctx.SetStatusCode(fasthttp.StatusForbidden)
		return
	}
	r.turnAway(ctx, notSupported)
}

// refuseMalformed answers an authenticated request that cannot be read.
func (r *Router) refuseMalformed(ctx *fasthttp.RequestCtx, c *carrier, err error) {
	var field *vn.FieldError
	if errors.As(err, &field) {
		c.malformed.Inc()
		writeFieldProblem(ctx, field)
		return
	}
	// A codec that breaks its contract. The error may hold anything, so only its
	// type is logged.
	r.sampled.Error().Str("carrier", c.Name).Str("error", fmt.Sprintf("%T", err)).Msg("router: a codec failed")
	ctx.SetStatusCode(fasthttp.StatusInternalServerError)
}

// turnAway answers a request that no carrier was asked about.
func (r *Router) turnAway(ctx *fasthttp.RequestCtx, why turnedAway) {
	r.metrics.turnedAway[why].Inc()
	turnedAwayProblems[why].write(ctx)
}

// callers lists the functions that led to a panic, without their arguments.
func callers(skip int) *zerolog.Array {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(skip, pcs[:])])
	list := zerolog.Arr()
	for {
		frame, more := frames.Next()
		list.Str(fmt.Sprintf("%s:%d", frame.Function, frame.Line))
		if !more {
			return list
		}
	}
}
