package conformance

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
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

// plivoPhone plays Plivo: forms signed by its third scheme, answers in its XML.
type plivoPhone struct{ tokens [2]string }

func newPlivoPhone() phone {
	return &plivoPhone{tokens: [2]string{"plivo-token-1", "plivo-token-2"}}
}

func (p *plivoPhone) settings(publicURL string) []string {
	return []string{
		"auth_id: MAXXXXXXXXXXXXXXXXXX", fmt.Sprintf("auth_tokens: [%q, %q]", p.tokens[0], p.tokens[1]),
		"public_url: " + publicURL,
	}
}

func (p *plivoPhone) window() time.Duration { return 0 }

func (p *plivoPhone) withheld() []string {
	return []string{"anonymous", "Restricted", "unknown", "sip:alice@phone.plivo.com"}
}

func (p *plivoPhone) ring(c ringing) *http.Request {
	form := p.common(c)
	form.Set("CallUUID", c.id)
	form.Set("CallStatus", "ringing")
	form.Set("Event", "StartApp")
	return p.post(c, c.public+c.path, form, false)
}

// common are the fields that every request holds; the router needs two of them.
func (p *plivoPhone) common(c ringing) url.Values {
	form := url.Values{
		"From": {strings.TrimPrefix(c.calling, "+")}, "To": {strings.TrimPrefix(c.called, "+")}, "Direction": {"inbound"},
		"ParentAuthID": {"MAXXXXXXXXXXXXXXXXXX"},
	}
	for field, value := range map[string]string{
		"BillRate": "0.005", "CallerName": "", "CountryCode": "US", "RouteType": "", "STIRVerification": "Not Applicable",
		"SessionStart": "2026-11-25 14:13:37.779297",
	} {
		if c.hostile != "" {
			value = c.hostile
		}
		form.Set(field, value)
	}
	return form
}

// post makes the signed request. Plivo signs messages with the main account's token.
func (p *plivoPhone) post(c ringing, address string, form url.Values, main bool) *http.Request {
	token := "plivo-token-3"
	if c.key >= 0 {
		token = p.tokens[c.key]
	}
	nonce := strconv.FormatInt(c.at.UnixNano(), 10)
	signature := plivoSignature(token, address, nonce, form)
	if c.tampered {
		called := []byte(form.Get("To"))
		called[len(called)-1] ^= 1
		form.Set("To", string(called))
	}
	to := c.to + strings.TrimPrefix(address, c.public)
	req, err := http.NewRequest(http.MethodPost, to, strings.NewReader(form.Encode())) //nolint:noctx // who sends it gives it a context
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Plivo-Signature-V3-Nonce", nonce)
	if main {
		req.Header.Set("X-Plivo-Signature-Ma-V3", signature)
		signature = plivoSignature("plivo-token-4", address, nonce, form)
	}
	req.Header.Set("X-Plivo-Signature-V3", signature)
	return req
}

// plivoSignature signs a POST with a form.
func plivoSignature(token, address, nonce string, form url.Values) string {
	address, query, _ := strings.Cut(address, "?")
	text := address + "?"
	if query != "" {
		text += query + "." // sorted, and needs no decoding
	}
	for _, key := range slices.Sorted(maps.Keys(form)) {
		text += key + form.Get(key)
	}
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(text + "." + nonce))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// plivoElement is any element of Plivo's XML.
type plivoElement struct {
	XMLName    xml.Name
	Attributes []xml.Attr     `xml:",any,attr"`
	Text       string         `xml:",chardata"`
	Elements   []plivoElement `xml:",any"`
}

func (e *plivoElement) attributes() map[string]string {
	all := make(map[string]string, len(e.Attributes))
	for _, a := range e.Attributes {
		all[a.Name.Local] = a.Value
	}
	return all
}

// plivoResponse reads the elements of <Response>. 503 gives errPlivoFallback.
func plivoResponse(status int, contentType string, body []byte) ([]plivoElement, error) {
	if status == http.StatusServiceUnavailable {
		return nil, errPlivoFallback
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("status %d is neither an answer nor a reason to use the fallback", status)
	}
	if contentType != "text/xml" && contentType != "application/xml" {
		return nil, fmt.Errorf("content type %q is not XML", contentType)
	}
	var root plivoElement
	if err := xml.Unmarshal(body, &root); err != nil {
		return nil, err
	}
	if root.XMLName.Local != "Response" || len(root.Attributes) > 0 || strings.TrimSpace(root.Text) != "" {
		return nil, fmt.Errorf("the document is not a plain <Response>, but %s", root.XMLName.Local)
	}
	return root.Elements, nil
}

var errPlivoFallback = errors.New("the fallback is used")

func (p *plivoPhone) heard(status int, contentType string, body []byte) (outcome, error) {
	elements, err := plivoResponse(status, contentType, body)
	if errors.Is(err, errPlivoFallback) {
		return outcome{fallback: true}, nil
	}
	if err != nil {
		return outcome{}, err
	}
	var names []string
	for _, e := range elements {
		names = append(names, e.XMLName.Local)
	}
	switch strings.Join(names, " ") {
	case "Dial":
		return plivoDial(&elements[0])
	case "Hangup":
		if reason := elements[0].attributes()["reason"]; reason != "rejected" && reason != "busy" {
			return outcome{}, fmt.Errorf("<Hangup> has the reason %q", reason)
		}
		return outcome{refused: true}, nil
	case "Speak Hangup":
		return outcome{refused: true}, nil
	}
	return outcome{}, fmt.Errorf("<Response> holds %v", names)
}

func plivoDial(dial *plivoElement) (outcome, error) {
	if len(dial.Elements) != 1 || dial.Elements[0].XMLName.Local != "Number" || len(dial.Elements[0].Attributes) > 0 {
		return outcome{}, errors.New("<Dial> does not hold exactly one plain <Number>")
	}
	a := dial.attributes()
	for _, name := range []string{"timeout", "timeLimit"} {
		if n, err := strconv.Atoi(a[name]); err != nil || n < 1 {
			return outcome{}, fmt.Errorf("%s is %q", name, a[name])
		}
	}
	for _, number := range []string{a["callerId"], dial.Elements[0].Text} {
		if n, err := strconv.ParseUint(number, 10, 64); err != nil || strconv.FormatUint(n, 10) != number {
			return outcome{}, errors.New("a number is not written in digits")
		}
	}
	// A name that is left out is the caller's own, which may hold the real number.
	if a["callerName"] != "+"+a["callerId"] {
		return outcome{}, errors.New("callerName is not the number that is shown")
	}
	o := outcome{connect: true, destination: "+" + dial.Elements[0].Text, callerID: "+" + a["callerId"]}
	want := 4
	if a["action"] != "" {
		want = 9
		if a["method"] != "POST" || a["callbackMethod"] != "POST" || a["redirect"] != "false" || a["callbackUrl"] != a["action"] {
			return outcome{}, fmt.Errorf("<Dial> asks for odd callbacks: %v", slices.Sorted(maps.Keys(a)))
		}
		u, err := url.Parse(a["action"])
		if err != nil {
			return outcome{}, err
		}
		o.orderID, o.callback = u.Query().Get("order_id"), a["action"]
	}
	if len(dial.Attributes) != want {
		return outcome{}, fmt.Errorf("<Dial> has the attributes %v", slices.Sorted(maps.Keys(a)))
	}
	return o, nil
}

func (p *plivoPhone) text(m texting) *http.Request {
	form := p.common(m.ringing)
	form.Set("MessageUUID", m.id)
	form.Set("Text", m.body)
	form.Set("Type", "sms")
	form.Set("MessageIntent", "")
	if m.media > 0 {
		form.Set("Type", "mms")
		form.Del("Text")
		form.Set("Body", m.body)
		form.Set("MediaCount", strconv.Itoa(m.media))
	}
	for i := range m.media {
		form.Set("Media"+strconv.Itoa(i), "https://media.example/"+strconv.Itoa(i))
	}
	return p.post(m.ringing, m.public+m.path, form, true)
}

func (p *plivoPhone) relayed(status int, contentType string, body []byte) (relay, error) {
	elements, err := plivoResponse(status, contentType, body)
	if err != nil || len(elements) == 0 {
		return relay{}, err
	}
	a := elements[0].attributes()
	if len(elements) > 1 || elements[0].XMLName.Local != "Message" || len(elements[0].Elements) > 0 || len(a) != 3 || a["type"] != "sms" {
		return relay{}, errors.New("<Response> holds something else than one <Message> of text")
	}
	for _, number := range []string{a["src"], a["dst"]} {
		if n, err := strconv.ParseUint(number, 10, 64); err != nil || strconv.FormatUint(n, 10) != number {
			return relay{}, errors.New("a number is not written in digits")
		}
	}
	return relay{sent: true, from: "+" + a["src"], to: "+" + a["dst"], text: elements[0].Text}, nil
}

// progress makes the callback that tells the status; nil for ringing, of which Plivo
// tells nothing. An answered leg is told at once, what it came to at the end.
func (p *plivoPhone) progress(t telling) *http.Request {
	told, ok := map[string][3]string{
		"answered":  {"DialAction", "answer", ""},
		"completed": {"DialAction", "hangup", "NORMAL_CLEARING"},
		"busy":      {"DialStatus", "busy", "USER_BUSY"},
		"no_answer": {"DialStatus", "no-answer", "NO_ANSWER"},
		"cancelled": {"DialAction", "hangup", "ORIGINATOR_CANCEL"},
		"failed":    {"DialStatus", "failed", "UNALLOCATED_NUMBER"},
	}[t.status]
	if !ok {
		return nil
	}
	form := p.common(t.ringing)
	form.Set("CallUUID", t.id)
	form.Set("DialALegUUID", t.id)
	form.Set("DialBLegUUID", t.id+"-b")
	form.Set("DialBLegFrom", form.Get("To"))
	form.Set(told[0], told[1])
	form.Set("DialHangupCause", told[2])
	form.Set("DialBLegHangupCause", told[2])
	form.Set("DialBLegDuration", strconv.Itoa(t.seconds))
	address := t.callback
	if address == "" {
		address = t.public + t.path
	}
	return p.post(t.ringing, address, form, false)
}
