package router

import (
	"bytes"
	"slices"
	"time"
	"unicode"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

// MessageCodec is a Codec whose carrier takes the relay of a message as the answer to
// its webhook. A carrier without it has no /sms.
type MessageCodec interface {
	// DecodeMessage authenticates the request first and then reads the message into m,
	// which comes zeroed. Errors are those of Codec.Decode.
	DecodeMessage(ctx *fasthttp.RequestCtx, secret []byte, m *vn.Message) error
	// AppendMessage appends the carrier's form of the verdict to dst and returns it
	// with its content type and HTTP status. To relay is to send m.Text to
	// d.Destination from d.CallerID.
	AppendMessage(dst []byte, m *vn.Message, d *vn.Decision, v vn.Verdict) (body []byte, contentType string, status int)
}

// serveMessage answers a carrier's webhook for a message: who may call may write.
// Refused messages have a limit of their own, so that a flood of texts does not refuse
// anybody's calls; and so have relayed ones between the same two, so that two telephones
// that answer by themselves do not go on for ever.
func (r *Router) serveMessage(ctx *fasthttp.RequestCtx, c *carrier, secret []byte, s *state, start time.Time) {
	codec, ok := c.Codec.(MessageCodec)
	if !ok {
		r.refuseUnsupported(ctx, c, secret, s)
		return
	}
	m := &s.message
	if !r.authentic(ctx, c, codec.DecodeMessage(ctx, secret, m)) {
		return
	}
	s.call = vn.Call{ID: m.ID, Called: m.Called, Calling: m.Calling}
	r.resolve(c, s, start, r.messageLimiter)
	verdict := judge(m, &s.decision)
	if (verdict == vn.Relay || verdict == vn.RefuseMedia) && !r.relays.spendPair(start, m.Calling, m.Called) {
		verdict = vn.Drop
		r.metrics.limitedPair.Inc()
	}
	if verdict == vn.Relay && r.cfg.RedactNumbers {
		s.text = appendRedacted(s.text[:0], m.Text)
		m.Text = s.text
	}
	body, contentType, status := codec.AppendMessage(s.answer[:0], m, &s.decision, verdict)
	respond(ctx, s, body, contentType, status)
	c.messages[verdict].Inc()
	if r.recorder != nil {
		r.recorder.Message(c.Name, m, &s.decision, verdict)
	}
}

// judge says what becomes of a message whose sender was looked up. A stranger's is
// dropped whatever it holds: no answer tells whether a VN is in use.
func judge(m *vn.Message, d *vn.Decision) vn.Verdict {
	switch {
	case d.Reason == vn.Unavailable:
		return vn.TryLater
	case d.Reason != vn.Connected, m.OptOut, optOut(m.Text):
		return vn.Drop
	case m.Media > 0:
		return vn.RefuseMedia
	case len(bytes.TrimSpace(m.Text)) == 0:
		return vn.Drop
	}
	return vn.Relay
}

// optOutWords are the words by which somebody tells a carrier, in a message of nothing
// else, to stop (or start again) sending from a number. They are meant for the carrier,
// which acts on them by itself: relayed they would reach a person who cannot. Words
// for help are left to the carrier's own judgement (vn.Message.OptOut).
// https://help.twilio.com/articles/223134027 (CTIA's list and Twilio's additions)
var optOutWords = []string{"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "optout", "revoke", "start", "unstop"}

// longestOptOut is the length of the longest of them.
const longestOptOut = len("unsubscribe")

// optOut tells whether the letters of the text are one of optOutWords, in any case and
// with whatever stands between and around them. A text with a digit in it is none.
func optOut(text []byte) bool {
	var word [longestOptOut]byte
	n := 0
	for _, r := range string(text) {
		switch {
		case r >= 'A' && r <= 'Z':
			r += 'a' - 'A'
		case r >= 'a' && r <= 'z':
		case unicode.IsLetter(r) || unicode.IsNumber(r):
			return false
		default:
			continue
		}
		if n == len(word) {
			return false
		}
		word[n] = byte(r)
		n++
	}
	return slices.Contains(optOutWords, string(word[:n]))
}
