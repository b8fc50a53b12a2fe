package conformance

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// simPhone plays the simulated carrier. Its webhook may hold no field beyond the three that
// the router needs, so there is no place for hostile values.
type simPhone struct{ secrets [2]string }

func newSimPhone() phone { return simPhone{[2]string{"sim-secret-one", "sim-secret-two"}} }

func (p simPhone) settings(string) []string {
	return []string{`secrets: ["` + p.secrets[0] + `", "` + p.secrets[1] + `"]`, "api_url: http://127.0.0.1:1"}
}

func (simPhone) window() time.Duration { return 5 * time.Minute }

func (simPhone) withheld() []string {
	return []string{"anonymous", "ANONYMOUS", "restricted", "unknown", "withheld", "unavailable", "private", "blocked"}
}

func (p simPhone) ring(c ringing) *http.Request {
	body, err := json.Marshal(map[string]string{"call_id": c.id, "from": c.calling, "to": c.called})
	if err != nil {
		panic(err)
	}
	return signedJSON(c, c.to+c.path, string(body), "X-Sim-Signature", p.secrets)
}

// signedJSON posts a body with a header "t=<unix>,v1=<hex HMAC-SHA256 of t.body>".
func signedJSON(c ringing, address, body, header string, secrets [2]string) *http.Request {
	secret := "a-secret-that-is-not-ours"
	if c.key >= 0 {
		secret = secrets[c.key]
	}
	at := strconv.FormatInt(c.at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "." + body))
	if c.tampered {
		body = flip(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(header, "t="+at+",v1="+hex.EncodeToString(mac.Sum(nil)))
	return req
}

func (simPhone) heard(status int, contentType string, body []byte) (outcome, error) {
	if status == http.StatusServiceUnavailable && len(body) == 0 {
		return outcome{fallback: true}, nil
	}
	if status != http.StatusOK || contentType != "application/json" {
		return outcome{}, errors.New("neither JSON nor a failure of our own: HTTP " + strconv.Itoa(status) + " " + contentType)
	}
	var a struct {
		Action   string `json:"action"`
		Cause    string `json:"cause"`
		Number   string `json:"number"`
		CallerID string `json:"caller_id"`
		Ring     int    `json:"ring_timeout_s"`
		Most     int    `json:"max_duration_s"`
	}
	if err := strictly(body, &a); err != nil {
		return outcome{}, err
	}
	switch {
	case a.Action == "dial" && a.Cause == "" && a.Ring > 0 && a.Most > 0:
		return outcome{connect: true, destination: a.Number, callerID: a.CallerID}, nil
	case a.Action == "refuse" && a.Cause != "" && a.Number == "" && a.CallerID == "":
		return outcome{refused: true}, nil
	}
	return outcome{}, errors.New("the answer makes no sense")
}
