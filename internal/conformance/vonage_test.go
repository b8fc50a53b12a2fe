package conformance

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	vonageKey         = "a1b2c3d"
	vonageApplication = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
)

// vonagePhone is the Vonage Voice API: JSON by POST with a signed token, and an NCCO back.
type vonagePhone struct{ secrets [2]string }

func newVonagePhone() phone {
	return &vonagePhone{secrets: [2]string{"vonage-signature-secret-1", "vonage-signature-secret-2"}}
}

func (p *vonagePhone) settings(publicURL string) []string {
	return []string{
		"api_key: " + vonageKey, "application_id: " + vonageApplication,
		`secrets: ["` + p.secrets[0] + `", "` + p.secrets[1] + `"]`, "public_url: " + publicURL,
	}
}

func (*vonagePhone) window() time.Duration { return 5 * time.Minute }

func (*vonagePhone) withheld() []string { return []string{"anonymous", "unknown", "Restricted"} }

// post makes a request with a token for its body (RFC 7519, HS256).
func (p *vonagePhone) post(address string, c ringing, fields map[string]string) *http.Request {
	body := vonageJSON(fields)
	sum := sha256.Sum256(body)
	input := vonagePart(map[string]string{"alg": "HS256", "typ": "JWT"}) + "." + vonagePart(map[string]any{
		"iat": c.at.Unix(), "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5", "iss": "Vonage", "api_key": vonageKey,
		"application_id": vonageApplication, "payload_hash": hex.EncodeToString(sum[:]),
	})
	secret := "a secret that is not ours"
	if c.key >= 0 {
		secret = p.secrets[c.key]
	}
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, input) // a hash takes every write
	if c.tampered {
		body[bytes.IndexByte(body, ':')+2] ^= 1
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+input+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	return req
}

func vonagePart(v any) string { return base64.RawURLEncoding.EncodeToString(vonageJSON(v)) }

func vonageJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// vonageConversation is the one id that both legs of a call share.
func vonageConversation(id string) string { return "CON-" + id }

func (p *vonagePhone) ring(c ringing) *http.Request {
	fields := map[string]string{
		"from": strings.TrimPrefix(c.calling, "+"), "to": strings.TrimPrefix(c.called, "+"), "uuid": c.id, "conversation_uuid": vonageConversation(c.id),
		"region_url": "https://api-ap-3.vonage.com",
	}
	if c.hostile != "" {
		fields["uuid"], fields["region_url"], fields["SipHeader_X-A"], fields[c.hostile] = c.hostile, c.hostile, c.hostile, c.hostile
	}
	return p.post(c.to+c.path, c, fields)
}

func (*vonagePhone) heard(status int, contentType string, body []byte) (outcome, error) {
	switch status {
	case http.StatusOK:
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return outcome{fallback: true}, nil
	default:
		return outcome{}, fmt.Errorf("status %d: the call is dropped without the fallback being asked", status)
	}
	if contentType != "application/json" {
		return outcome{}, fmt.Errorf("content type %q", contentType)
	}
	var actions []struct {
		Action   string `json:"action"`
		Text     string `json:"text"`
		Language string `json:"language"`
		From     string `json:"from"`
		Timeout  int    `json:"timeout"`
		Limit    int    `json:"limit"`
		Endpoint []struct {
			Type   string `json:"type"`
			Number string `json:"number"`
		} `json:"endpoint"`
		EventURL []string `json:"eventUrl"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&actions); err != nil {
		return outcome{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return outcome{}, errors.New("more than one NCCO")
	}
	if len(actions) != 1 {
		return outcome{}, fmt.Errorf("%d actions", len(actions))
	}
	a := actions[0]
	if a.Action == "talk" && a.Text != "" && a.From == "" && len(a.Endpoint) == 0 && len(a.EventURL) == 0 {
		return outcome{refused: true}, nil
	}
	if a.Action != "connect" || a.Text != "" || len(a.Endpoint) != 1 || a.Endpoint[0].Type != "phone" {
		return outcome{}, errors.New("neither a refusal nor a connection to one telephone")
	}
	if a.Timeout <= 0 || a.Limit <= 0 || a.Limit > 7200 || len(a.EventURL) > 1 || a.From == "" || a.From[0] == '+' || a.Endpoint[0].Number[0] == '+' {
		return outcome{}, errors.New("a connection without limits, or with numbers of another form")
	}
	o := outcome{connect: true, destination: "+" + a.Endpoint[0].Number, callerID: "+" + a.From}
	if len(a.EventURL) == 1 {
		o.callback = a.EventURL[0]
		u, err := url.Parse(o.callback)
		if err != nil {
			return outcome{}, err
		}
		o.orderID = u.Query().Get("order_id")
	}
	return o, nil
}

// vonageStatuses are the words of an event's status.
var vonageStatuses = map[string]string{
	"ringing": "ringing", "answered": "answered", "completed": "completed", "busy": "busy", "no_answer": "unanswered", "cancelled": "cancelled", "failed": "failed",
}

// progress is an event of the callee's leg, whose uuid is not that of the caller's.
func (p *vonagePhone) progress(t telling) *http.Request {
	address := t.to + t.path
	if t.callback != "" {
		u, err := url.Parse(t.callback)
		if err != nil {
			panic(err)
		}
		address = t.to + u.RequestURI()
	}
	fields := map[string]string{
		"from": strings.TrimPrefix(t.called, "+"), "to": "447700900999", "uuid": "the-other-leg-of-" + t.id, "conversation_uuid": vonageConversation(t.id),
		"status": vonageStatuses[t.status], "direction": "outbound", "timestamp": t.at.UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	if t.status == "completed" {
		fields["duration"], fields["network"], fields["price"] = strconv.Itoa(t.seconds), "GB-FIXED", "0.00015000"
	}
	if t.hostile != "" {
		for _, key := range []string{"from", "to", "uuid", "network", "price", "detail", t.hostile} {
			fields[key] = t.hostile
		}
	}
	return p.post(address, t.ringing, fields)
}
