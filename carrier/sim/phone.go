package sim

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/callmask/callmask/vn"
)

// Heard is what the caller hears when the carrier has its answer.
type Heard string

// What a caller can hear.
const (
	Ringing Heard = "ringing" // the callee's telephone rings
	Refused Heard = "refused" // the call was refused, for Result.Cause
	Failed  Heard = "failed"  // the carrier got no usable answer and turns to its fallback
)

// Result is what each side of a call saw.
type Result struct {
	CallID string
	Heard  Heard
	// Cause is why the call was refused: one of this package's causes for Phone; for
	// TwilioPhone "rejected", "busy" or the spoken text.
	Cause       string
	Rang        vn.Number // the number whose telephone rang; 0 when none did
	Shown       vn.Number // the caller ID that the callee saw; 0 when none rang
	RingTimeout time.Duration
	MaxDuration time.Duration
	Status      int           // HTTP status of the router's answer
	Latency     time.Duration // from sending the webhook to having read the answer
}

// maxAnswer bounds the answer that a telephone reads.
const maxAnswer = 1 << 20

// callTimeout is how long a call waits for the router when the settings name no other
// time. Twilio waits 15 s at most.
const callTimeout = 15 * time.Second

// PhoneConfig holds the settings of a Phone.
type PhoneConfig struct {
	URL     string        // the router's webhook: http://…/v1/carriers/<name>/voice
	Secret  string        // signs the webhook
	Timeout time.Duration // of one call; 0 means 15 s
}

// Phone places calls as the simulated carrier: it announces each to the router and
// obeys the answer. It is safe for concurrent use.
type Phone struct {
	url    string
	secret string
	web    *web
}

// NewPhone checks the settings and returns a Phone. Close it after use.
func NewPhone(cfg PhoneConfig) (*Phone, error) {
	if err := checkURL("url", cfg.URL); err != nil {
		return nil, err
	}
	if cfg.Secret == "" {
		return nil, &vn.FieldError{Field: "secret", Problem: "is missing"}
	}
	return &Phone{url: cfg.URL, secret: cfg.Secret, web: newWeb(cfg.Timeout)}, nil
}

// Close drops the idle connections.
func (p *Phone) Close() { p.web.close() }

// Call places a call from a number (+E.164, or a word such as "anonymous") to a VN.
// An HTTP answer other than 200 is no error: the caller then heard Failed. The error
// says that the router could not be reached or that its answer makes no sense.
func (p *Phone) Call(ctx context.Context, from, to string) (Result, error) {
	id := p.web.nextID("SIM")
	body, err := json.Marshal(webhook{CallID: id, From: from, To: to})
	if err != nil {
		return Result{}, fmt.Errorf("sim: make the webhook: %w", err)
	}
	header := http.Header{"Content-Type": {jsonType}, SignatureHeader: {Sign(p.secret, time.Now(), body)}}
	result, answer, err := p.web.call(ctx, http.MethodPost, p.url, header, body, jsonType)
	result.CallID = id
	if err != nil || answer == nil {
		return result, err
	}
	var a struct {
		Action      string `json:"action"`
		Cause       string `json:"cause"`
		Number      string `json:"number"`
		CallerID    string `json:"caller_id"`
		RingTimeout int64  `json:"ring_timeout_s"`
		MaxDuration int64  `json:"max_duration_s"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return result, errAnswer("is not JSON")
	}
	switch a.Action {
	case "dial":
		return result, result.dial(a.Number, a.CallerID, a.RingTimeout, a.MaxDuration)
	case "refuse":
		if a.Cause == "" {
			return result, errAnswer("refuses without a cause")
		}
		result.Heard, result.Cause = Refused, a.Cause
		return result, nil
	}
	return result, errAnswer("names no known action")
}

// dial lets the callee's telephone ring.
func (r *Result) dial(number, callerID string, ring, most int64) error {
	rang, ok := vn.ParseE164(number)
	if !ok {
		return errAnswer("dials what is not a number")
	}
	shown, ok := vn.ParseE164(callerID)
	if !ok {
		return errAnswer("shows what is not a number")
	}
	if ring <= 0 || most <= 0 {
		return errAnswer("lacks a time limit")
	}
	r.Heard, r.Rang, r.Shown = Ringing, rang, shown
	r.RingTimeout, r.MaxDuration = time.Duration(ring)*time.Second, time.Duration(most)*time.Second
	return nil
}

// errAnswer says what is wrong with the router's answer without repeating it: it may
// hold a real number.
func errAnswer(problem string) error { return fmt.Errorf("sim: the router's answer %s", problem) }

func checkURL(field, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return &vn.FieldError{Field: field, Problem: "must be an http or https address"}
	}
	return nil
}

// web is the HTTP side that both telephones share.
type web struct {
	client  *http.Client
	timeout time.Duration
	prefix  string
	calls   atomic.Uint64
}

func newWeb(timeout time.Duration) *web {
	if timeout <= 0 {
		timeout = callTimeout
	}
	return &web{client: newClient(), timeout: timeout, prefix: rand.Text()[:12]}
}

func (w *web) close() { w.client.CloseIdleConnections() }

// nextID returns an id that no other call has.
func (w *web) nextID(kind string) string {
	return kind + "-" + w.prefix + "-" + strconv.FormatUint(w.calls.Add(1), 10)
}

// call sends a webhook and returns the answer's body, nil when it is not a 200.
func (w *web) call(ctx context.Context, method, to string, header http.Header, body []byte, want string) (Result, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	result := Result{Heard: Failed}
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return result, nil, errRequest(err)
	}
	req.Header = header
	began := time.Now()
	resp, err := w.client.Do(req)
	if err != nil {
		return result, nil, errRequest(err)
	}
	defer func() { _ = resp.Body.Close() }() // the answer has been read; there is nothing to do about it
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	result.Latency, result.Status = time.Since(began), resp.StatusCode
	if err != nil {
		return result, nil, errRequest(err)
	}
	if resp.StatusCode != http.StatusOK {
		return result, nil, nil
	}
	if got, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || got != want {
		return result, nil, errAnswer("has not the content type " + want)
	}
	return result, answer, nil
}

// errRequest drops the URL from an HTTP client's error: a GET's query holds numbers.
func errRequest(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client.Do returns it unwrapped
		err = u.Err
	}
	return fmt.Errorf("sim: reach the router: %w", err)
}

// newClient returns a client with connections of its own that follows no redirect.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     30 * time.Second,
			TLSHandshakeTimeout: 5 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
