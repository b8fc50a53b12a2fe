package conformance

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// markup is one element of TwiML or TeXML.
type markup struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []markup   `xml:",any"`
	Text     string     `xml:",chardata"`
}

func (m *markup) attr(name string) string {
	for _, a := range m.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// only tells whether the element has no attributes but these.
func (m *markup) only(names ...string) error {
	for _, a := range m.Attrs {
		if !slices.Contains(names, a.Name.Local) {
			return fmt.Errorf("<%s> has the unknown attribute %s", m.XMLName.Local, a.Name.Local)
		}
	}
	return nil
}

// readMarkup returns the verbs of a <Response>.
func readMarkup(contentType string, body []byte) ([]markup, error) {
	if contentType != "text/xml" {
		return nil, fmt.Errorf("content type %q", contentType)
	}
	dec := xml.NewDecoder(bytes.NewReader(body))
	var response markup
	if err := dec.Decode(&response); err != nil {
		return nil, fmt.Errorf("no XML: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the answer")
	}
	if response.XMLName.Local != "Response" || len(response.Attrs) > 0 || strings.TrimSpace(response.Text) != "" {
		return nil, errors.New("the root is not a plain <Response>")
	}
	return response.Children, nil
}

// hearMarkup reads the answer to a call; dialAttrs are further attributes that the
// carrier knows for <Dial>.
func hearMarkup(status int, contentType string, body []byte, dialAttrs ...string) (outcome, error) {
	if status >= 500 {
		if len(body) > 0 {
			return outcome{}, errors.New("a failure with a body")
		}
		return outcome{fallback: true}, nil
	}
	if status != http.StatusOK {
		return outcome{}, fmt.Errorf("status %d", status)
	}
	verbs, err := readMarkup(contentType, body)
	if err != nil {
		return outcome{}, err
	}
	if len(verbs) == 0 {
		return outcome{}, errors.New("an empty <Response>")
	}
	switch first := &verbs[0]; first.XMLName.Local {
	case "Dial":
		if len(verbs) != 1 {
			return outcome{}, errors.New("something follows <Dial>")
		}
		return dialOutcome(first, dialAttrs)
	case "Reject":
		if len(verbs) != 1 || len(first.Children) > 0 || first.Text != "" {
			return outcome{}, errors.New("<Reject> is not alone")
		}
		if reason := first.attr("reason"); reason != "rejected" && reason != "busy" {
			return outcome{}, errors.New("<Reject> with an unknown reason")
		}
		return outcome{refused: true}, first.only("reason")
	case "Say":
		if len(verbs) != 2 || verbs[1].XMLName.Local != "Hangup" || len(first.Children) > 0 || strings.TrimSpace(first.Text) == "" {
			return outcome{}, errors.New("<Say> is empty, or no <Hangup> follows it")
		}
		return outcome{refused: true}, first.only("language")
	}
	return outcome{}, errors.New("an unknown verb")
}

func dialOutcome(dial *markup, dialAttrs []string) (outcome, error) {
	if err := dial.only(append(dialAttrs, "callerId", "timeout", "timeLimit", "action", "method")...); err != nil {
		return outcome{}, err
	}
	if len(dial.Children) != 1 || dial.Children[0].XMLName.Local != "Number" || strings.TrimSpace(dial.Text) != "" {
		return outcome{}, errors.New("<Dial> does not hold exactly one <Number>")
	}
	number := &dial.Children[0]
	if len(number.Children) > 0 || len(number.Attrs) > 0 {
		return outcome{}, errors.New("<Number> holds more than a number")
	}
	for _, name := range []string{"timeout", "timeLimit"} {
		if n, err := strconv.Atoi(dial.attr(name)); err != nil || n <= 0 {
			return outcome{}, fmt.Errorf("%s is not a positive number of seconds", name)
		}
	}
	o := outcome{connect: true, destination: number.Text, callerID: dial.attr("callerId"), callback: dial.attr("action")}
	if o.callback == "" {
		return o, nil
	}
	if dial.attr("method") != http.MethodPost {
		return outcome{}, errors.New("the callback is not asked for by POST")
	}
	u, err := url.Parse(o.callback)
	if err != nil {
		return outcome{}, errors.New("the callback's URL is none")
	}
	o.orderID = u.Query().Get("order_id")
	return o, nil
}

// dialResults are DialCallStatus and CallStatus for the statuses of a telling.
var dialResults = map[string]string{
	"ringing": "ringing", "answered": "in-progress",
	"completed": "completed", "busy": "busy", "no_answer": "no-answer", "cancelled": "canceled", "failed": "failed",
}

// tellByForm fills in what became of a call: while the callee's leg lives, a callback
// of that leg, afterwards the result of <Dial>.
func tellByForm(form url.Values, p *telling) {
	result := dialResults[p.status]
	if p.status == "ringing" || p.status == "answered" {
		form.Set("CallSid", p.id+"-callee")
		form.Set("ParentCallSid", p.id)
		form.Set("CallStatus", result)
		form.Set("CallbackSource", "call-progress-events")
		return
	}
	form.Set("CallSid", p.id)
	form.Set("CallStatus", "in-progress")
	form.Set("DialCallSid", p.id+"-callee")
	form.Set("DialCallStatus", result)
	if p.status == "completed" {
		form.Set("DialCallDuration", strconv.Itoa(p.seconds))
	}
}

// callbackOf splits the URL that a callback goes to into what is signed and where it is
// really sent.
func callbackOf(p *telling) (signed, target string) {
	if p.callback == "" {
		return p.public + p.path, p.to + p.path
	}
	return p.callback, p.to + strings.TrimPrefix(p.callback, p.public)
}

// postForm makes a form request.
func postForm(target, body string) *http.Request {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}
