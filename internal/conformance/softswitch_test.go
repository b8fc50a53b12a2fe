package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// softswitchPhone plays an operator's own switch, which asks with a bearer token.
type softswitchPhone struct{ tokens [2]string }

func newSoftswitchPhone() phone {
	return softswitchPhone{[2]string{"softswitch-token-one", "softswitch-token-two"}}
}

func (p softswitchPhone) settings(string) []string {
	return []string{`tokens: ["` + p.tokens[0] + `", "` + p.tokens[1] + `"]`}
}

func (softswitchPhone) window() time.Duration { return 0 }

func (softswitchPhone) withheld() []string {
	return []string{"anonymous", "Anonymous", "restricted", "unknown", "withheld", "unavailable", "private", "blocked"}
}

func (p softswitchPhone) ring(c ringing) *http.Request {
	token := "another-token-than-ours"
	if c.key >= 0 {
		token = p.tokens[c.key]
	}
	if c.tampered {
		token = flip(token)
	}
	query := url.Values{"called": {c.called}, "calling": {c.calling}, "call_id": {c.id}}
	if c.hostile != "" {
		for _, key := range []string{"src", "x_" + c.hostile, "Called", "From"} {
			query.Set(key, c.hostile)
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, c.to+"/v1/resolve?"+query.Encode(), http.NoBody)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return req
}

// flip changes one bit in the middle of a text.
func flip(s string) string {
	b := []byte(s)
	b[len(b)/2] ^= 1
	return string(b)
}

// strictly reads one JSON value that holds nothing but v's fields.
func strictly(body []byte, v any) error {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("the answer holds more than one value")
	}
	return nil
}

func (softswitchPhone) heard(status int, contentType string, body []byte) (outcome, error) {
	if contentType != "application/json" {
		return outcome{}, errors.New("the answer is not JSON: " + contentType)
	}
	var a struct {
		Action      string `json:"action"`
		Destination string `json:"destination"`
		CallerID    string `json:"caller_id"`
		OrderID     string `json:"order_id"`
		Ring        int    `json:"ring_timeout_s"`
		Most        int    `json:"max_duration_s"`
		Reason      string `json:"reason"`
		Code        int    `json:"sip_code"`
		Phrase      string `json:"sip_reason"`
	}
	if err := strictly(body, &a); err != nil {
		return outcome{}, err
	}
	switch {
	case status == http.StatusServiceUnavailable && a.Action == "reject" && a.Reason == "unavailable" && a.Code == 503:
		return outcome{fallback: true}, nil
	case status != http.StatusOK:
		return outcome{}, errors.New("an HTTP error that is not ours to give")
	case a.Action == "connect" && a.Ring > 0 && a.Most > 0 && a.Reason == "" && a.Code == 0:
		return outcome{connect: true, destination: a.Destination, callerID: a.CallerID, orderID: a.OrderID}, nil
	case a.Action == "reject" && a.Code >= 400 && a.Phrase != "" && a.Destination == "" && a.CallerID == "" && a.OrderID == "":
		return outcome{refused: true}, nil
	}
	return outcome{}, errors.New("the answer makes no sense")
}
