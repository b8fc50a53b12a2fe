package conformance

import (
	"bytes"
	"context"
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

// exotelPhone is Exotel's Connect applet: GETs to an address whose last segment is the
// secret, and JSON back.
type exotelPhone struct{ secrets [2]string }

func newExotelPhone() phone {
	return &exotelPhone{secrets: [2]string{"exotel-secret-number-one", "exotel-secret-number-two"}}
}

func (p *exotelPhone) settings(publicURL string) []string {
	return []string{
		"account_sid: example1", `secrets: ["` + p.secrets[0] + `", "` + p.secrets[1] + `"]`, "region: IN", "fallback: true",
		"public_url: " + publicURL,
	}
}

func (*exotelPhone) window() time.Duration { return 0 }

func (*exotelPhone) withheld() []string { return []string{"anonymous", "Restricted", "unknown"} }

// secret is the last segment of the path. There is nothing else that could be tampered with.
func (p *exotelPhone) secret(c ringing) string {
	secret := "not-the-secret-of-anybody"
	if c.key >= 0 {
		secret = p.secrets[c.key]
	}
	if c.tampered {
		secret = "E" + secret[1:]
	}
	return secret
}

// exotelNumber writes an Indian number as it is dialled there, any other one in E.164.
func exotelNumber(number string) string {
	if national, ok := strings.CutPrefix(number, "+91"); ok {
		return "0" + national
	}
	return number
}

// exotelQuery writes a query as Exotel does: it leaves plus signs as they are.
func exotelQuery(values url.Values) string {
	return strings.ReplaceAll(values.Encode(), "%2B", "+")
}

func (p *exotelPhone) ring(c ringing) *http.Request {
	at := c.at.In(time.FixedZone("", 19800))
	q := url.Values{
		"CallSid": {c.id}, "CallFrom": {exotelNumber(c.calling)}, "CallTo": {exotelNumber(c.called)}, "Direction": {"incoming"},
		"From": {exotelNumber(c.calling)}, "To": {exotelNumber(c.called)}, "CallType": {"call-attempt"}, "flow_id": {"11754"}, "tenant_id": {"1409"},
		"Created": {at.Format("Mon, 02 Jan 2006 15:04:05")}, "StartTime": {at.Format(time.DateTime)}, "CurrentTime": {at.Format(time.DateTime)},
		"EndTime": {"1970-01-01 05:30:00"}, "DialCallDuration": {"0"}, "DialWhomNumber": {""}, "digits": {`"8"`},
	}
	if c.hostile != "" {
		for key := range q {
			switch key {
			case "CallSid", "CallFrom", "CallTo", "Direction":
			default:
				q.Set(key, c.hostile)
			}
		}
		q.Set(c.hostile, c.hostile)
	}
	req := exotelGet(c.to+c.path+"/"+p.secret(c), q)
	req.Header.Set("Exotel-Version", "1.0")
	return req
}

// exotelGet makes a GET of address, which may have a query already.
func exotelGet(address string, q url.Values) *http.Request {
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address+separator+exotelQuery(q), nil)
	if err != nil {
		panic(err)
	}
	return req
}

func (*exotelPhone) heard(status int, contentType string, body []byte) (outcome, error) {
	if status != http.StatusOK {
		return outcome{fallback: true}, nil
	}
	if contentType != "application/json" {
		return outcome{}, fmt.Errorf("content type %q", contentType)
	}
	var a struct {
		FetchAfterAttempt *bool `json:"fetch_after_attempt"`
		Destination       *struct {
			Numbers *[]string `json:"numbers"`
		} `json:"destination"`
		OutgoingPhoneNumber     string `json:"outgoing_phone_number"`
		Record                  *bool  `json:"record"`
		MaxRingingDuration      int    `json:"max_ringing_duration"`
		MaxConversationDuration int    `json:"max_conversation_duration"`
		MusicOnHold             struct {
			Type string `json:"type"`
		} `json:"music_on_hold"`
		ParallelRinging struct {
			Activate bool `json:"activate"`
		} `json:"parallel_ringing"`
		DialPassthruEventURL string `json:"dial_passthru_event_url"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return outcome{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return outcome{}, errors.New("more than one answer")
	}
	if a.FetchAfterAttempt == nil || *a.FetchAfterAttempt || a.Destination == nil || a.Destination.Numbers == nil {
		return outcome{}, errors.New("asks again after an attempt, or names no list of numbers")
	}
	numbers := *a.Destination.Numbers
	if len(numbers) == 0 {
		if a.OutgoingPhoneNumber != "" || a.DialPassthruEventURL != "" {
			return outcome{}, errors.New("a refusal that tells more than that")
		}
		return outcome{refused: true}, nil
	}
	if len(numbers) != 1 || a.Record == nil || *a.Record || a.MaxRingingDuration <= 0 || a.MaxConversationDuration <= 0 ||
		a.MusicOnHold.Type != "operator_tone" || a.ParallelRinging.Activate {
		return outcome{}, errors.New("a connection that is not one number, unrecorded, with limits")
	}
	o := outcome{connect: true, destination: numbers[0], callerID: a.OutgoingPhoneNumber, callback: a.DialPassthruEventURL}
	if o.callback != "" {
		u, err := url.Parse(o.callback)
		if err != nil {
			return outcome{}, err
		}
		o.orderID = u.Query().Get("order_id")
	}
	return o, nil
}

// exotelEndings are the words of DialCallStatus.
var exotelEndings = map[string]string{
	"completed": "completed", "busy": "busy", "no_answer": "no-answer", "cancelled": "canceled", "failed": "failed",
}

// progress is the Connect applet's event while it dials, or the Passthru applet's afterwards.
func (p *exotelPhone) progress(t telling) *http.Request {
	callback, err := url.Parse(t.callback)
	if err != nil {
		panic(err)
	}
	path := t.path
	if t.callback != "" {
		path = callback.Path[:strings.LastIndexByte(callback.Path, '/')]
	}
	address := t.to + path + "/" + p.secret(t.ringing)
	if callback.RawQuery != "" {
		address += "?" + callback.RawQuery
	}
	q := url.Values{
		"CallSid": {t.id}, "CallFrom": {exotelNumber(t.calling)}, "CallTo": {exotelNumber(t.called)}, "Direction": {"outbound-dial"},
		"CurrentTime": {t.at.In(time.FixedZone("", 19800)).Format(time.DateTime)}, "DialWhomNumber": {"05555510099"},
	}
	switch t.status {
	case "ringing", "answered":
		q.Set("EventType", strings.ToUpper(t.status[:1])+t.status[1:])
		q.Set("Status", "busy")
	default:
		q.Set("DialCallStatus", exotelEndings[t.status])
		q.Set("DialCallDuration", strconv.Itoa(t.seconds+5))
		q.Set("Legs[0][OnCallDuration]", strconv.Itoa(t.seconds))
		q.Set("Legs[0][Number]", "05555510099")
	}
	if t.hostile != "" {
		for _, key := range []string{"CallFrom", "CallTo", "Direction", "DialWhomNumber", "RecordingUrl", "Legs[0][CauseCode]", t.hostile} {
			q.Set(key, t.hostile)
		}
	}
	return exotelGet(address, q)
}
