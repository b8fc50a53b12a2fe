package conformance

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// jambonzPhone plays jambonz-feature-server towards the webhooks of an application.
type jambonzPhone struct{ secrets [2]string }

func newJambonzPhone() phone {
	return jambonzPhone{[2]string{"wh_conformance_one", "wh_conformance_two"}}
}

func (p jambonzPhone) settings(publicURL string) []string {
	return []string{`secrets: ["` + p.secrets[0] + `", "` + p.secrets[1] + `"]`, "trunk: carrier1", "public_url: " + publicURL}
}

func (jambonzPhone) window() time.Duration { return 5 * time.Minute }

// withheld: the user part of a From header without a number.
func (jambonzPhone) withheld() []string {
	return []string{"anonymous", "Anonymous", "restricted", "unknown", "unavailable", "private", "alice", ""}
}

// webhook makes the fields of every webhook: the leg with this id, and what a SIP
// message and the account add.
func (jambonzPhone) webhook(c ringing, sid, direction, status string, sip int) map[string]any {
	odd := c.hostile
	return map[string]any{
		"sip":     map[string]any{"headers": map[string]any{"user-agent": odd, odd: odd}, "body": odd, "payload": []any{odd, map[string]any{"x": odd}}},
		"call_id": odd, "sip_reason": odd, "account_sid": odd, "application_sid": odd, "trace_id": odd, "caller_name": odd, "caller_id": odd,
		"fs_sip_address": odd, "originating_sip_ip": odd, "originating_sip_trunk_name": odd, "customerData": map[string]any{"order_id": odd},
		"b3 " + odd: odd, "dial_sbc_callid": odd,
		// The called number as many trunks deliver it: without a plus sign.
		"call_sid": sid, "direction": direction, "from": c.calling, "to": strings.TrimPrefix(c.called, "+"), "call_status": status, "sip_status": sip,
	}
}

func (p jambonzPhone) post(c ringing, address string, fields map[string]any) *http.Request {
	body, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return signedJSON(c, address, string(body), "Jambonz-Signature", p.secrets)
}

func (p jambonzPhone) ring(c ringing) *http.Request {
	return p.post(c, c.to+c.path, p.webhook(c, c.id, "inbound", "trying", 100))
}

// jambonzVerb holds the properties of every verb that callmask may answer with.
type jambonzVerb struct {
	Verb           string            `json:"verb"`
	Status         int               `json:"status"`
	Reason         string            `json:"reason"`
	CallerID       string            `json:"callerId"`
	Headers        map[string]string `json:"headers"`
	AnswerOnBridge bool              `json:"answerOnBridge"`
	Timeout        int               `json:"timeout"`
	TimeLimit      int               `json:"timeLimit"`
	ActionHook     string            `json:"actionHook"`
	Target         []struct {
		Type   string `json:"type"`
		Number string `json:"number"`
		Trunk  string `json:"trunk"`
	} `json:"target"`
	Text        string `json:"text"`
	Synthesizer *struct {
		Vendor   string `json:"vendor"`
		Language string `json:"language"`
	} `json:"synthesizer"`
}

// declines tells whether the verbs refuse a call that is not answered.
func declines(verbs []jambonzVerb) bool {
	v := verbs[0]
	return v.Status >= 400 && v.Status <= 699 && reflect.DeepEqual(verbs, []jambonzVerb{{Verb: "sip:decline", Status: v.Status, Reason: v.Reason}})
}

// says tells whether the verbs answer a call only to speak a text.
func says(verbs []jambonzVerb) bool {
	v := verbs[0]
	if v.Synthesizer != nil && (v.Synthesizer.Vendor == "" || v.Synthesizer.Language == "") {
		return false
	}
	return v.Text != "" && reflect.DeepEqual(verbs, []jambonzVerb{{Verb: "say", Text: v.Text, Synthesizer: v.Synthesizer}, {Verb: "hangup"}})
}

func (jambonzPhone) heard(status int, contentType string, body []byte) (outcome, error) {
	if status == http.StatusServiceUnavailable && len(body) == 0 {
		return outcome{fallback: true}, nil
	}
	if status != http.StatusOK || contentType != "application/json" {
		return outcome{}, errors.New("jambonz would not read this answer: HTTP " + strconv.Itoa(status) + " " + contentType)
	}
	var verbs []jambonzVerb
	if err := strictly(body, &verbs); err != nil {
		return outcome{}, err
	}
	if len(verbs) == 0 {
		return outcome{}, errors.New("no verb")
	}
	switch v := &verbs[0]; v.Verb {
	case "sip:decline":
		if !declines(verbs) {
			return outcome{}, errors.New("the call is not declined")
		}
		return outcome{refused: true}, nil
	case "say":
		if !says(verbs) {
			return outcome{}, errors.New("the call is not refused by a text alone")
		}
		return outcome{refused: true}, nil
	case "dial":
		if len(verbs) != 1 || v.Text != "" || v.Synthesizer != nil || v.Status != 0 || v.Reason != "" {
			return outcome{}, errors.New("more than a dial verb")
		}
		if len(v.Target) != 1 || v.Target[0].Type != "phone" || v.Target[0].Trunk != "carrier1" || !v.AnswerOnBridge || v.Timeout < 1 || v.TimeLimit < 1 {
			return outcome{}, errors.New("the dial verb is not what it must be")
		}
		if v.CallerID == "" || v.Headers["P-Asserted-Identity"] != "<sip:"+v.CallerID+"@localhost>" || v.Headers["Privacy"] != "none" {
			return outcome{}, errors.New("jambonz could show the caller's own identity")
		}
		hook, err := url.Parse(v.ActionHook)
		if err != nil {
			return outcome{}, err
		}
		return outcome{
			connect: true, destination: v.Target[0].Number, callerID: v.CallerID, callback: v.ActionHook, orderID: hook.Query().Get("order_id"),
		}, nil
	}
	return outcome{}, errors.New("an unknown verb")
}

// progress tells of the callee's leg: that it rings or was answered by call_status_hook, how
// dialling ended by the dial verb's actionHook.
func (p jambonzPhone) progress(t telling) *http.Request {
	address := t.to + t.path
	if t.status == "ringing" || t.status == "answered" {
		fields := p.webhook(t.ringing, "child-"+t.id, "outbound", map[string]string{"ringing": "ringing", "answered": "in-progress"}[t.status], 180)
		fields["parent_call_sid"] = t.id
		return p.post(t.ringing, address, fields)
	}
	if hook, err := url.Parse(t.callback); err == nil && t.callback != "" {
		address = t.to + hook.RequestURI()
	}
	callerLeg, dial := "in-progress", t.status
	sip := map[string]int{"completed": 200, "busy": 486, "no_answer": 480, "cancelled": 487, "failed": 404}[t.status]
	switch t.status {
	case "no_answer":
		dial = "no-answer"
	case "cancelled":
		dial, callerLeg = "ringing", "no-answer"
	}
	fields := p.webhook(t.ringing, t.id, "inbound", callerLeg, 200)
	fields["dial_call_status"], fields["dial_sip_status"], fields["dial_call_sid"] = dial, sip, "child-"+t.id
	if t.status == "completed" {
		fields["duration"] = t.seconds
	}
	return p.post(t.ringing, address, fields)
}

// TestAJambonzPhoneHearsEveryRefusal holds the phone, which meets only the refusal that is
// set for the suite, against all of them, and against what is none.
func TestAJambonzPhoneHearsEveryRefusal(t *testing.T) {
	t.Parallel()
	p := newJambonzPhone()
	for _, name := range []string{"decline", "busy", "say", "say-language"} {
		body, err := os.ReadFile("../../carrier/jambonz/testdata/" + name + ".json")
		require.NoError(t, err)
		o, err := p.heard(http.StatusOK, "application/json", body)
		require.NoError(t, err, name)
		require.Equal(t, outcome{refused: true}, o, name)
	}
	const hangup = `{"verb":"hangup"}`
	for _, body := range []string{
		`[]`, `[` + hangup + `]`, `[{"verb":"sip:decline","status":200}]`, `[{"verb":"sip:decline","status":700}]`, `[{"verb":"sip:decline"}]`,
		`[{"verb":"sip:decline","status":486},` + hangup + `]`, `[{"verb":"sip:decline","status":486,"callerId":"+12025550102"}]`,
		`[{"verb":"say","text":"x"}]`, `[{"verb":"say","text":"x"},{"verb":"dial"}]`, `[{"verb":"say","text":"x"},` + hangup + `,` + hangup + `]`,
		`[{"verb":"say"},` + hangup + `]`, `[{"verb":"say","text":["x"]},` + hangup + `]`, `[{"verb":"say","text":"x","loop":2},` + hangup + `]`,
		`[{"verb":"say","text":"x","target":[{"type":"phone"}]},` + hangup + `]`, `[{"verb":"say","text":"x"},{"verb":"hangup","text":"y"}]`,
		`[{"verb":"say","text":"x","synthesizer":{"language":"id-ID"}},` + hangup + `]`, `[` + hangup + `,{"verb":"say","text":"x"}]`,
		`[{"verb":"say","text":"x","synthesizer":{"vendor":"default","language":"id-ID","voice":"y"}},` + hangup + `]`,
	} {
		_, err := p.heard(http.StatusOK, "application/json", []byte(body))
		require.Error(t, err, body)
	}
}
