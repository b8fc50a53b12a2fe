package peers

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // G505: the algorithm is Twilio's choice
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// getter reads the packed binding for a caller of a VN; errNoBinding: there is none.
type getter func(ctx context.Context, key string, token seal.Token) ([]byte, error)

// plain reads with one HGET.
func plain(client *redis.Client) getter {
	return func(ctx context.Context, key string, token seal.Token) ([]byte, error) {
		value, err := client.HGet(ctx, key, string(token[:])).Bytes()
		if errors.Is(err, redis.Nil) {
			return nil, errNoBinding
		}
		return value, err
	}
}

// scripted reads with a script, as those do who put their rules into Redis.
func scripted(ctx context.Context, client *redis.Client) (getter, error) {
	script := redis.NewScript(`return redis.call('HGET', KEYS[1], ARGV[1])`)
	if err := script.Load(ctx, client).Err(); err != nil {
		return nil, err
	}
	return func(ctx context.Context, key string, token seal.Token) ([]byte, error) {
		value, err := client.EvalShaRO(ctx, script.Hash(), []string{key}, token[:]).Text()
		if errors.Is(err, redis.Nil) {
			return nil, errNoBinding
		}
		return []byte(value), err
	}, nil
}

// newStd is the handler that net/http and the standard library suggest.
func newStd(prefix string, keys *seal.Keyset, patience time.Duration, get getter) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+world.VoicePath, func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() != nil || !signed(r) || r.PostForm.Get("AccountSid") != world.AccountSID {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		calling, ok := vn.ParseE164(r.PostForm.Get("From"))
		called, ok2 := vn.ParseE164(r.PostForm.Get("To"))
		if !ok || !ok2 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		token := keys.Primary().Token(calling)
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		packed, err := get(ctx, prefix+called.Digits(), token)
		if errors.Is(err, errNoBinding) {
			answer(w, `<?xml version="1.0" encoding="UTF-8"?><Response><Reject reason="rejected"/></Response>`)
			return
		}
		var destination, show vn.Number
		if err == nil {
			destination, show, err = open(keys, token, packed)
		}
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		answer(w, `<?xml version="1.0" encoding="UTF-8"?><Response><Dial callerId="`+show.E164()+
			`" answerOnBridge="true" timeout="`+strconv.Itoa(world.RingTimeout)+`" timeLimit="`+strconv.Itoa(world.MaxDuration)+
			`"><Number>`+destination.E164()+`</Number></Dial></Response>`)
	})
	return mux
}

func answer(w http.ResponseWriter, twiml string) {
	w.Header().Set("Content-Type", "text/xml")
	_, _ = io.WriteString(w, twiml) //nolint:gosec // G705: XML of digits; a caller that has gone needs no answer
}

// signed checks Twilio's signature: https://www.twilio.com/docs/usage/security
func signed(r *http.Request) bool {
	text := []byte(world.PublicURL + r.URL.RequestURI())
	for _, key := range sortedKeys(r.PostForm) {
		for _, value := range r.PostForm[key] {
			text = append(append(text, key...), value...)
		}
	}
	mac := hmac.New(sha1.New, []byte(world.AuthToken))
	mac.Write(text)
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return subtle.ConstantTimeCompare([]byte(want), []byte(r.Header.Get("X-Twilio-Signature"))) == 1
}

func sortedKeys(form url.Values) []string {
	keys := make([]string, 0, len(form))
	for key := range form {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
