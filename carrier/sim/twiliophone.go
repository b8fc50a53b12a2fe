package sim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the algorithm is Twilio's choice
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callmask/callmask/vn"
)

// TwilioPhoneConfig holds the settings of a TwilioPhone.
type TwilioPhoneConfig struct {
	URL        string // where the webhook is sent: http://…/v1/carriers/<name>/voice
	PublicURL  string // the carrier's public_url setting, what the signature is made for
	AccountSID string
	AuthToken  string
	Timeout    time.Duration // of one call; 0 means 15 s
}

// TwilioPhone places calls as Twilio would: a signed form to the router, TwiML back.
// It shares no code with package twilio, so each judges the other. It is safe for
// concurrent use.
type TwilioPhone struct {
	cfg TwilioPhoneConfig
	web *web
}

// NewTwilioPhone checks the settings and returns a TwilioPhone. Close it after use.
func NewTwilioPhone(cfg TwilioPhoneConfig) (*TwilioPhone, error) {
	if err := checkURL("url", cfg.URL); err != nil {
		return nil, err
	}
	if err := checkURL("public_url", cfg.PublicURL); err != nil {
		return nil, err
	}
	if cfg.AccountSID == "" || cfg.AuthToken == "" {
		return nil, &vn.FieldError{Field: "account_sid and auth_token", Problem: "must be given"}
	}
	return &TwilioPhone{cfg: cfg, web: newWeb(cfg.Timeout)}, nil
}

// Close drops the idle connections.
func (p *TwilioPhone) Close() { p.web.close() }

// Call is Phone.Call by way of Twilio. from may also be "client:…" or "sip:…".
func (p *TwilioPhone) Call(ctx context.Context, from, to string) (Result, error) {
	id := p.web.nextID("CA")
	values := url.Values{
		"AccountSid": {p.cfg.AccountSID}, "ApiVersion": {"2010-04-01"}, "CallSid": {id}, "CallStatus": {"ringing"},
		"Called": {to}, "Caller": {from}, "Direction": {"inbound"}, "From": {from}, "To": {to},
	}
	target, err := url.Parse(p.cfg.URL)
	if err != nil {
		return Result{}, errRequest(err)
	}
	header := http.Header{"User-Agent": {"TwilioProxy/1.1"}, "Content-Type": {"application/x-www-form-urlencoded; charset=UTF-8"}}
	signed := strings.TrimRight(p.cfg.PublicURL, "/") + target.RequestURI()
	header.Set("X-Twilio-Signature", SignTwilio(p.cfg.AuthToken, signed, values))
	result, answer, err := p.web.call(ctx, http.MethodPost, target.String(), header, []byte(values.Encode()), "text/xml")
	result.CallID = id
	if err != nil || answer == nil {
		return result, err
	}
	return result, obey(answer, &result)
}

// SignTwilio returns the X-Twilio-Signature of a form that is sent to the URL.
// https://www.twilio.com/docs/usage/security
func SignTwilio(token, called string, params url.Values) string {
	keys := make([]string, 0, len(params))
	for key := range params {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	h := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(h, called) // a hash takes every write
	for _, key := range keys {
		values := slices.Clone(params[key])
		slices.Sort(values)
		for _, value := range slices.Compact(values) {
			_, _ = io.WriteString(h, key+value)
		}
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// verb is one TwiML element.
type verb struct {
	XMLName        xml.Name
	CallerID       string   `xml:"callerId,attr"`
	AnswerOnBridge string   `xml:"answerOnBridge,attr"`
	Timeout        string   `xml:"timeout,attr"`
	TimeLimit      string   `xml:"timeLimit,attr"`
	Reason         string   `xml:"reason,attr"`
	Numbers        []string `xml:"Number"`
	Text           string   `xml:",chardata"`
}

// obey does what the TwiML's first verb says.
func obey(twiml []byte, result *Result) error {
	var response struct {
		XMLName xml.Name `xml:"Response"`
		Verbs   []verb   `xml:",any"`
	}
	dec := xml.NewDecoder(bytes.NewReader(twiml))
	if err := dec.Decode(&response); err != nil {
		return errAnswer("is not TwiML")
	}
	if len(response.Verbs) == 0 {
		return errAnswer("holds no verb")
	}
	v := response.Verbs[0]
	switch v.XMLName.Local {
	case "Dial":
		if len(v.Numbers) != 1 {
			return errAnswer("dials other than one number")
		}
		if v.CallerID == "" {
			return errAnswer("shows the caller's real number: callerId is missing")
		}
		if v.AnswerOnBridge != "true" {
			return errAnswer("answers before the callee does: answerOnBridge is not true")
		}
		ring, _ := strconv.ParseInt(v.Timeout, 10, 32) // a wrong one is 0, which dial refuses
		most, _ := strconv.ParseInt(v.TimeLimit, 10, 32)
		return result.dial(v.Numbers[0], v.CallerID, ring, most)
	case "Reject":
		result.Heard, result.Cause = Refused, v.Reason
		if v.Reason == "" {
			result.Cause = "rejected"
		}
		return nil
	case "Say":
		result.Heard, result.Cause = Refused, v.Text
		return nil
	}
	return errAnswer("begins with an unknown verb")
}
