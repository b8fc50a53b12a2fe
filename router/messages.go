package router

import (
	"bytes"
	"time"

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
func (r *Router) serveMessage(ctx *fasthttp.RequestCtx, c *carrier, secret []byte, s *state, start time.Time) {
	codec, ok := c.Codec.(MessageCodec)
	if !ok {
		r.turnAway(ctx, notSupported)
		return
	}
	m := &s.message
	if !r.authentic(ctx, c, codec.DecodeMessage(ctx, secret, m)) {
		return
	}
	s.call = vn.Call{ID: m.ID, Called: m.Called, Calling: m.Calling}
	r.resolve(c, s, start)
	verdict := judge(m, &s.decision)
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
// which acts on them by itself: relayed they would reach a person who cannot.
// https://help.twilio.com/articles/223134027 (CTIA's list and Twilio's additions)
var optOutWords = []string{
	"stop", "stopall", "stop all", "unsubscribe", "cancel", "end", "quit", "optout", "opt out", "opt-out", "revoke", "start", "unstop",
}

// optOut tells whether the whole text is one of optOutWords, in any case and with any
// spaces, quotes and full stops around it.
func optOut(text []byte) bool {
	text = bytes.Trim(text, " \t\r\n.!,'\"")
	for _, word := range optOutWords {
		if len(text) == len(word) && bytes.EqualFold(text, []byte(word)) {
			return true
		}
	}
	return false
}
