package plivo

import (
	"bytes"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// maxBody is the most characters that Plivo sends, and maxUnicode of those that stand
// outside the GSM alphabet.
// https://docs.plivo.com/docs/messaging/concepts/encoding-and-concatenation
const (
	maxBody    = 1600
	maxUnicode = 737
)

// DecodeMessage is Decode for an incoming text message. m.ID and m.Text live as long as
// the request. m.Calling is 0 for a sender that is no number, such as a short code or a
// name.
// https://docs.plivo.com/docs/messaging/api/message/handling-incoming
func (c *Codec) DecodeMessage(ctx *fasthttp.RequestCtx, _ []byte, m *vn.Message) error {
	v := c.verifier.get()
	defer c.verifier.put(v)
	if !c.authentic(v, &ctx.Request) {
		return vn.ErrForbidden
	}
	return readMessage(v.fields, m)
}

// readMessage writes nothing to m when there is an error.
func readMessage(f *form.Form, m *vn.Message) error {
	id, err := identifier(f, "MessageUUID")
	if err != nil {
		return err
	}
	from, err := f.Get(fromField)
	if err != nil {
		return err
	}
	calling, _ := number(from.Value)
	called, err := dialled(f)
	if err != nil {
		return err
	}
	words, err := written(f)
	if err != nil {
		return err
	}
	media, err := files(f)
	if err != nil {
		return err
	}
	intent, err := f.Text("MessageIntent")
	if err != nil {
		return err
	}
	*m = vn.Message{ID: id, Called: called, Calling: calling, Text: words, Media: media, OptOut: optOut(intent.Value)}
	return nil
}

// written reads the text, which stands in Text for an SMS and in Body for an MMS. Bytes
// that are no UTF-8 become U+FFFD.
func written(f *form.Form) ([]byte, error) {
	for _, field := range [...]string{"Text", "Body"} {
		p, err := f.Text(field)
		if err != nil {
			return nil, err
		}
		if len(p.Value) == 0 {
			continue
		}
		if utf8.RuneCount(p.Value) > maxBody {
			return nil, &vn.FieldError{Field: field, Problem: "is longer than 1600 characters, the most that Plivo sends"}
		}
		if utf8.Valid(p.Value) {
			return p.Keep(), nil
		}
		return bytes.ToValidUTF8(p.Value, []byte(string(utf8.RuneError))), nil
	}
	return nil, nil
}

// files reads how many files came with the text: MediaCount, or the number of fields
// Media0, Media1, … when there are more of them.
func files(f *form.Form) (int, error) {
	const field = "MediaCount"
	listed := 0
	for i := range f.Params {
		if name, ok := bytes.CutPrefix(f.Params[i].Key, []byte("Media")); ok && len(name) > 0 && name[0] >= '0' && name[0] <= '9' {
			listed++
		}
	}
	p, err := f.Text(field)
	if err != nil || len(p.Value) == 0 {
		return listed, err
	}
	n, err := strconv.ParseUint(string(p.Value), 10, 8)
	if err != nil {
		return 0, &vn.FieldError{Field: field, Problem: "is not a number of files"}
	}
	return max(int(n), listed), nil
}

// optOut tells whether Plivo itself took the message for a request to stop, to start
// again or for help.
func optOut(intent []byte) bool {
	return text.EqualFold(intent, "optout") || text.EqualFold(intent, "optin") || text.EqualFold(intent, "help")
}

// AppendMessage appends the XML of the verdict to dst: m.Text from d.CallerID to
// d.Destination, Config.MediaText from the VN back to the sender, or nothing to be done.
// A text of nothing but spaces cannot be sent and is dropped. When the decision could not
// be made, or lacks a number, nothing is appended and the status is 503: Plivo then
// asks the application's fallback.
// https://docs.plivo.com/docs/messaging/xml/message
func (c *Codec) AppendMessage(dst []byte, m *vn.Message, d *vn.Decision, v vn.Verdict) (body []byte, mediaType string, status int) {
	switch {
	case v == vn.Drop || v == vn.Relay && len(bytes.TrimSpace(m.Text)) == 0:
		return append(dst, nothing...), contentType, http.StatusOK
	case v == vn.Relay && d.CallerID.Valid() && d.Destination.Valid():
		return appendMessage(dst, d.CallerID, d.Destination, m.Text), contentType, http.StatusOK
	case v == vn.RefuseMedia && m.Called.Valid() && m.Calling.Valid():
		return appendMessage(dst, m.Called, m.Calling, c.mediaText), contentType, http.StatusOK
	}
	return dst, contentType, http.StatusServiceUnavailable
}

// appendMessage appends one message as an answer. dst takes several numbers with "<"
// between them; digits cannot be that.
func appendMessage[T ~string | ~[]byte](dst []byte, src, to vn.Number, words T) []byte {
	dst = append(dst, xmlHead+`<Response><Message src="`...)
	dst = src.AppendDigits(dst)
	dst = append(dst, `" dst="`...)
	dst = to.AppendDigits(dst)
	dst = append(dst, `" type="sms">`...)
	dst = text.AppendXML(dst, words)
	return append(dst, `</Message></Response>`...)
}
