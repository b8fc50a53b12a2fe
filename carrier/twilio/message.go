package twilio

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/carrier/internal/twiml"
	"github.com/callmask/callmask/vn"
)

// DefaultMediaText is what the sender of files is told when Config.MediaText is empty.
const DefaultMediaText = "This number takes text only: pictures and files are not passed on."

// maxBody is the longest text in characters that Twilio delivers, and sends.
// https://www.twilio.com/docs/messaging/guides/webhook-request
// https://www.twilio.com/docs/api/errors/14103
const maxBody = 1600

func checkMediaText(words string) error {
	const field = "media_text"
	if strings.TrimSpace(words) == "" {
		return &vn.FieldError{Field: field, Problem: "holds nothing to send"}
	}
	if utf8.RuneCountInString(words) > maxBody {
		return &vn.FieldError{Field: field, Problem: "is longer than 1600 characters, the most that Twilio sends"}
	}
	return nil
}

// DecodeMessage is Decode for an incoming text message. m.ID and m.Text live as long as
// the request. m.Calling is 0 for a sender that is no number, such as a short code, a
// name or a WhatsApp address.
// https://www.twilio.com/docs/messaging/guides/webhook-request
func (c *Codec) DecodeMessage(ctx *fasthttp.RequestCtx, _ []byte, m *vn.Message) error {
	v := c.verifier.get()
	defer c.verifier.put(v)
	if !c.authentic(v, ctx) {
		return vn.ErrForbidden
	}
	return readMessage(&v.form, m)
}

// readMessage writes nothing to m when there is an error.
func readMessage(f *form.Form, m *vn.Message) error {
	id, err := f.Get("MessageSid")
	if err != nil {
		return err
	}
	if !text.Printable(id.Value, maxID) {
		return &vn.FieldError{Field: "MessageSid", Problem: "is not the id of a message"}
	}
	from, err := f.Get("From")
	if err != nil {
		return err
	}
	calling, _ := caller(from.Value)
	to, err := f.Get("To")
	if err != nil {
		return err
	}
	called, ok := vn.ParseE164(to.Value)
	if !ok {
		return &vn.FieldError{Field: "To", Problem: "is not a number with + and country code"}
	}
	body, err := f.Text("Body")
	if err != nil {
		return err
	}
	if utf8.RuneCount(body.Value) > maxBody {
		return &vn.FieldError{Field: "Body", Problem: "is longer than 1600 characters"}
	}
	media, err := files(f)
	if err != nil {
		return err
	}
	optOut, err := f.Text("OptOutType")
	if err != nil {
		return err
	}
	words := body.Keep()
	if !utf8.Valid(words) {
		words = bytes.ToValidUTF8(words, []byte(string(utf8.RuneError)))
	}
	*m = vn.Message{ID: id.Keep(), Called: called, Calling: calling, Text: words, Media: media, OptOut: len(optOut.Value) > 0}
	return nil
}

// files reads how many files came with the text.
func files(f *form.Form) (int, error) {
	p, err := f.Text("NumMedia")
	if err != nil || len(p.Value) == 0 {
		return 0, err
	}
	n, err := strconv.ParseUint(string(p.Value), 10, 8)
	if err != nil {
		return 0, &vn.FieldError{Field: "NumMedia", Problem: "is not a number of files"}
	}
	return int(n), nil
}

// AppendMessage appends the TwiML of the verdict to dst: m.Text from d.CallerID to
// d.Destination, Config.MediaText from the VN back to the sender, or nothing to be done.
// A text of nothing but spaces cannot be sent (https://www.twilio.com/docs/api/errors/14103)
// and is dropped. When the decision could not be made, or lacks a number, nothing is
// appended and the status is 503. Twilio then asks again if the number's SmsUrl says so
// ("#rc=2&rp=ct,rt,5xx"), and its SmsFallbackUrl if it has one; without either the message is lost.
// https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
func (c *Codec) AppendMessage(dst []byte, m *vn.Message, d *vn.Decision, v vn.Verdict) (body []byte, mediaType string, status int) {
	switch {
	case v == vn.Drop || v == vn.Relay && len(bytes.TrimSpace(m.Text)) == 0:
		return twiml.AppendNothing(dst), twiml.ContentType, http.StatusOK
	case v == vn.Relay && d.CallerID.Valid() && d.Destination.Valid():
		return twiml.AppendMessage(dst, d.CallerID, d.Destination, m.Text), twiml.ContentType, http.StatusOK
	case v == vn.RefuseMedia && m.Called.Valid() && m.Calling.Valid():
		return twiml.AppendMessage(dst, m.Called, m.Calling, c.mediaText), twiml.ContentType, http.StatusOK
	}
	return dst, twiml.ContentType, http.StatusServiceUnavailable
}
