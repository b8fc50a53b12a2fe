package conformance

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// telnyxPhone calls and tells as a TeXML application of Telnyx does.
type telnyxPhone struct {
	keys []ed25519.PrivateKey // the last one is not ours
}

func newTelnyxPhone() phone {
	p := telnyxPhone{}
	for i := range byte(3) {
		p.keys = append(p.keys, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{'k' + i}, ed25519.SeedSize)))
	}
	return p
}

func (p telnyxPhone) settings(publicURL string) []string {
	public := make([]string, 0, 2)
	for _, key := range p.keys[:2] {
		public = append(public, strconv.Quote(base64.StdEncoding.EncodeToString(key[ed25519.SeedSize:])))
	}
	return []string{fmt.Sprintf("public_keys: [%s, %s]", public[0], public[1]), "public_url: " + publicURL}
}

func (telnyxPhone) window() time.Duration { return 5 * time.Minute }

func (telnyxPhone) withheld() []string {
	return []string{"anonymous", "Anonymous", "Restricted", "sip:alice@example.com", "alice@sip.example.com"}
}

func (telnyxPhone) form(c *ringing) url.Values {
	form := url.Values{
		"AccountSid": {"f5586561-8ff0-4291-a51b-c7dfe4139ff9"}, "CallSidLegacy": {c.id}, "CallerId": {"Alice"}, "ConnectionId": {"1234567890"},
		"From": {c.calling}, "To": {c.called}, "ShakenStirAttestation": {"A"}, "ShakenStirValidated": {"true"},
	}
	if c.hostile != "" {
		for _, field := range []string{
			"AccountSid", "CallSidLegacy", "CallerId", "ConnectionId", "ShakenStirAttestation", "ShakenStirValidated", "NewField", c.hostile,
		} {
			form.Set(field, c.hostile)
		}
	}
	return form
}

func (p telnyxPhone) ring(c ringing) *http.Request {
	form := p.form(&c)
	form.Set("CallSid", c.id)
	form.Set("CallStatus", "ringing")
	if c.hostile != "" {
		form.Set("CallStatus", c.hostile)
	}
	return p.request(&c, c.to+c.path, form)
}

func (p telnyxPhone) progress(t telling) *http.Request {
	form := p.form(&t.ringing)
	tellByForm(form, &t)
	form.Set("Timestamp", t.at.UTC().Format(time.RFC3339))
	_, target := callbackOf(&t)
	return p.request(&t.ringing, target, form)
}

// request signs the time and the body.
// https://developers.telnyx.com/development/api-fundamentals/webhooks/receiving-webhooks
func (p telnyxPhone) request(c *ringing, target string, form url.Values) *http.Request {
	key := p.keys[len(p.keys)-1]
	if c.key >= 0 {
		key = p.keys[c.key]
	}
	body, timestamp := form.Encode(), strconv.FormatInt(c.at.Unix(), 10)
	signature := ed25519.Sign(key, []byte(timestamp+"|"+body))
	if c.tampered {
		form.Set("ConnectionId", "1234567891")
		body = form.Encode()
	}
	r := postForm(target, body)
	r.Header.Set("Telnyx-Timestamp", timestamp)
	r.Header.Set("Telnyx-Signature-Ed25519", base64.StdEncoding.EncodeToString(signature))
	return r
}

func (telnyxPhone) heard(status int, contentType string, body []byte) (outcome, error) {
	o, err := hearMarkup(status, contentType, body)
	if err != nil || !o.connect {
		return o, err
	}
	verbs, err := readMarkup(contentType, body)
	if err != nil {
		return outcome{}, err
	}
	for name, span := range map[string][2]int{"timeout": {5, 120}, "timeLimit": {60, 14400}} {
		if n, err := strconv.Atoi(verbs[0].attr(name)); err != nil || n < span[0] || n > span[1] {
			return outcome{}, errors.New(name + " is not what Telnyx takes")
		}
	}
	return o, nil
}
