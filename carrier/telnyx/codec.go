package telnyx

import (
	"bytes"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/carrier/internal/twiml"
	"github.com/callmask/callmask/vn"
)

// Refusal is the way a refused caller is told.
type Refusal = twiml.Refusal

// The ways to refuse. Reject and Busy end the call before it is answered, which
// Telnyx does not bill; Say answers it to speak a text.
// https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs/reject
const (
	Reject = twiml.Reject // the caller hears that the number is not in service
	Busy   = twiml.Busy   // the caller hears a busy signal
	Say    = twiml.Say    // the caller hears Config.Text
)

// DefaultText is what Say speaks when Config.Text is empty.
const DefaultText = twiml.DefaultText

// Config holds the settings of one Telnyx account.
type Config struct {
	// PublicKeys check Telnyx's signatures: one, or two while the key is replaced. Each
	// is 32 bytes in base64, as the portal shows it.
	PublicKeys []string
	// Refusal is how callers are refused; empty means Reject.
	Refusal Refusal
	// Text is what Say speaks; empty means DefaultText. Every refusal says the same.
	Text string
	// Language is the language of Text, such as "id-ID"; empty means Telnyx's default.
	Language string
	// StatusURL is where Telnyx tells how a connected call ended; empty asks for no
	// such callback.
	StatusURL string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Codec reads Telnyx's webhooks and writes TeXML. It is safe for concurrent use.
type Codec struct {
	checks sync.Pool
	reader twiml.Reader
	writer *twiml.Writer
}

// maxID bounds the length of Telnyx's ids, which have about 60 characters.
const maxID = 128

// What <Dial> takes as timeout and as timeLimit. It has no answerOnBridge among its
// attributes.
// https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs/dial
var (
	ring = twiml.Span{Least: 5 * time.Second, Most: 2 * time.Minute}
	talk = twiml.Span{Least: time.Minute, Most: 4 * time.Hour}
)

// New checks the settings and returns the account's codec. An error names the setting.
func New(cfg Config) (*Codec, error) {
	keys, err := publicKeys(cfg.PublicKeys)
	if err != nil {
		return nil, err
	}
	writer, err := twiml.NewWriter(twiml.Config{
		Refusal: cfg.Refusal, Text: cfg.Text, Language: cfg.Language, StatusURL: cfg.StatusURL, Ring: ring, Talk: talk,
	})
	if err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Codec{
		checks: sync.Pool{New: func() any { return &check{keys: keys, now: cfg.Now} }},
		reader: twiml.Reader{Caller: caller, MaxID: maxID, Cause: "HangupCause"},
		writer: writer,
	}, nil
}

// Decode checks the signature and its time, then reads the call. Without a valid
// signature nothing but vn.ErrForbidden is told; a wrong field gives a *vn.FieldError.
// call.ID lives as long as the request. secret is not used.
func (c *Codec) Decode(ctx *fasthttp.RequestCtx, _ []byte, call *vn.Call) error {
	v := c.checks.Get().(*check) //nolint:errcheck // the pool makes nothing else
	defer c.checks.Put(v)
	if err := v.read(&ctx.Request); err != nil {
		return err
	}
	return c.reader.Call(&v.form, call)
}

// DecodeProgress is Decode for a callback about a call: the result of <Dial> that
// AppendAnswer asked for, and the status callbacks of the application. known is false
// when it tells nothing that a vn.Progress can hold. p.CallID is the id that vn.Call.ID
// was.
//
// p.OrderID is a hint: it comes from the query, which Telnyx does not sign. Who can put
// another one there, without changing the body or its time, can make the record of that
// call name another order; p.CallID, which is signed, still tells the call that was
// decided. Nothing is ever connected, released or shown by it.
func (c *Codec) DecodeProgress(ctx *fasthttp.RequestCtx, _ []byte, p *vn.Progress) (known bool, err error) {
	v := c.checks.Get().(*check) //nolint:errcheck // the pool makes nothing else
	defer c.checks.Put(v)
	if err := v.read(&ctx.Request); err != nil {
		return false, err
	}
	return c.reader.Progress(&v.form, ctx.Request.Header.RequestURI(), p)
}

// AppendAnswer appends the TeXML of the decision to dst. On our own failure it appends
// nothing and gives 503, which makes Telnyx ask the application's failover URL. So
// does a connection that lacks either number: <Dial> without callerId would not show
// the VN. The ringing time is kept within 5 s to 2 min and the length of a call within
// 1 min to 4 h, which is what Telnyx takes.
// https://developers.telnyx.com/docs/voice/programmable-voice/texml-fundamentals
func (c *Codec) AppendAnswer(dst []byte, _ *vn.Call, d *vn.Decision) (body []byte, mediaType string, status int) {
	return c.writer.AppendAnswer(dst, d)
}

// AppendProgressAnswer appends the TeXML that ends the call, to be sent with status 200.
func (c *Codec) AppendProgressAnswer(dst []byte) (body []byte, mediaType string) {
	return twiml.AppendProgressAnswer(dst)
}

// caller reads From: 0 and true for a caller without a number, false for what is neither
// that nor a number. Telnyx documents a number or a SIP address; what it writes for a
// caller who is not shown stands in none of its pages, so the usual words are taken.
// https://developers.telnyx.com/api-reference/callbacks/texml-call-initiated
func caller(from []byte) (vn.Number, bool) {
	if n, ok := vn.ParseE164(from); ok {
		return n, true
	}
	return 0, text.Withheld(from) || text.HasPrefixFold(from, "sip:") || text.HasPrefixFold(from, "sips:") || bytes.IndexByte(from, '@') > 0
}
