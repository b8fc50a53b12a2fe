package conformance

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// twilioPhone calls, texts and tells as Twilio does.
type twilioPhone struct{}

func newTwilioPhone() phone { return twilioPhone{} }

const twilioAccount = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

var twilioTokens = []string{"first-auth-token", "second-auth-token"}

func (twilioPhone) settings(publicURL string) []string {
	return []string{
		"account_sid: " + twilioAccount,
		fmt.Sprintf("auth_tokens: [%q, %q]", twilioTokens[0], twilioTokens[1]),
		"public_url: " + publicURL,
	}
}

func (twilioPhone) window() time.Duration { return 0 }

func (twilioPhone) withheld() []string {
	return []string{"+266696687", "+7378742833", "anonymous", "Restricted", "client:alice", "sip:alice@example.com"}
}

// form are the fields that come with everything.
func (twilioPhone) form(c *ringing) url.Values {
	form := url.Values{
		"AccountSid": {twilioAccount}, "ApiVersion": {"2010-04-01"}, "From": {c.calling}, "To": {c.called}, "FromCountry": {"US"}, "ToCountry": {"US"},
	}
	if c.hostile != "" {
		// Twilio's names begin with a letter, and none sorts before AccountSid.
		for _, field := range []string{"ApiVersion", "FromCountry", "ToCountry", "FromCity", "CallerName", "ForwardedFrom", "StirVerstat", "NewField", "Z" + c.hostile} {
			form.Set(field, c.hostile)
		}
	}
	return form
}

func (p twilioPhone) ring(c ringing) *http.Request {
	form := p.form(&c)
	for field, value := range map[string]string{"CallStatus": "ringing", "Direction": "inbound", "Caller": c.calling, "Called": c.called} {
		form.Set(field, value)
		if c.hostile != "" {
			form.Set(field, c.hostile)
		}
	}
	form.Set("CallSid", c.id)
	return p.request(&c, c.public+c.path, c.to+c.path, form)
}

func (p twilioPhone) text(m texting) *http.Request {
	form := p.form(&m.ringing)
	for field, value := range map[string]string{"SmsSid": m.id, "SmsStatus": "received", "NumSegments": "1", "ToZip": "10001"} {
		form.Set(field, value)
		if m.hostile != "" {
			form.Set(field, m.hostile)
		}
	}
	form.Set("MessageSid", m.id)
	form.Set("Body", m.body)
	form.Set("NumMedia", strconv.Itoa(m.media))
	for i := range m.media {
		form.Set("MediaUrl"+strconv.Itoa(i), "https://api.twilio.com/media/"+strconv.Itoa(i))
		form.Set("MediaContentType"+strconv.Itoa(i), "image/jpeg")
	}
	return p.request(&m.ringing, m.public+m.path, m.to+m.path, form)
}

func (p twilioPhone) progress(t telling) *http.Request {
	form := p.form(&t.ringing)
	tellByForm(form, &t)
	signed, target := callbackOf(&t)
	return p.request(&t.ringing, signed, target, form)
}

// request signs the form for the URL that Twilio believes to call.
// https://www.twilio.com/docs/usage/security
func (twilioPhone) request(c *ringing, signed, target string, form url.Values) *http.Request {
	token := "a token of somebody else"
	if c.key >= 0 {
		token = twilioTokens[c.key]
	}
	mac := hmac.New(sha1.New, []byte(token))
	mac.Write([]byte(signed))
	for _, key := range slices.Sorted(maps.Keys(form)) {
		mac.Write([]byte(key + form.Get(key)))
	}
	if c.tampered {
		form.Set("ToCountry", "UT")
	}
	r := postForm(target, form.Encode())
	r.Header.Set("X-Twilio-Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	r.Header.Set("I-Twilio-Idempotency-Token", "5f0c2f3c-2b6c-4d8e-9c55-4cf3b4bd7c6e")
	return r
}

func (twilioPhone) heard(status int, contentType string, body []byte) (outcome, error) {
	o, err := hearMarkup(status, contentType, body, "answerOnBridge")
	if err == nil && o.connect && !strings.Contains(string(body), `answerOnBridge="true"`) {
		return outcome{}, errors.New("the caller pays while it rings")
	}
	return o, err
}

func (twilioPhone) relayed(status int, contentType string, body []byte) (relay, error) {
	if status != http.StatusOK {
		return relay{}, fmt.Errorf("status %d", status)
	}
	verbs, err := readMarkup(contentType, body)
	if err != nil || len(verbs) == 0 {
		return relay{}, err
	}
	message := &verbs[0]
	if len(verbs) != 1 || message.XMLName.Local != "Message" || len(message.Children) > 0 {
		return relay{}, errors.New("more or something else than one <Message>")
	}
	if err := message.only("from", "to"); err != nil {
		return relay{}, err
	}
	r := relay{sent: true, to: message.attr("to"), from: message.attr("from"), text: message.Text}
	if r.to == "" || r.from == "" || strings.TrimSpace(r.text) == "" || len([]rune(r.text)) > 1600 {
		return relay{}, errors.New("Twilio would not send this")
	}
	return r, nil
}
