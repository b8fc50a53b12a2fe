package console

import (
	"fmt"
	"strings"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// reasons says what a decision means to somebody who asks why.
var reasons = map[string]string{
	vn.NumberNotAssigned.String(): "no live order held the number, or the call came by another carrier than the number's",
	vn.CallerNotAllowed.String():  "an order held the number, but the caller was no party of it: it called from another telephone, or is a stranger",
	vn.OrderEnded.String():        "the caller was a party of an order that had ended",
	vn.CallerWithheld.String():    "the caller withheld its number, so nobody could tell whether it may call",
	vn.RateLimited.String():       "too many calls of this caller, or to this number, had been refused within a minute",
	vn.Unavailable.String():       "Redis did not answer in time",
}

// tell puts an event into words.
func tell(h events.Happened) told {
	t := told{Happened: h}
	switch {
	case h.Call != nil:
		t.call()
	case h.Status != nil:
		t.status()
	case h.Message != nil:
		t.Text = "message of " + h.Message.Carrier + " " + strings.ReplaceAll(h.Message.Verdict, "_", " ")
		t.Refusal, t.Why = h.Message.Reason != vn.Connected.String(), reasons[h.Message.Reason]
	case h.Subject == events.SubjectAssigned:
		t.assigned()
	case h.Subject == events.SubjectReleased:
		t.Text = "released: " + h.Reason
	case h.Subject == events.SubjectFailed:
		t.Text, t.Refusal = "not assigned: "+strings.ReplaceAll(h.Reason, "_", " "), true
	default:
		t.Text = "event " + h.Subject + " came in"
	}
	return t
}

func (t *told) call() {
	if t.Call.Reason == vn.Connected.String() {
		t.Text = "call of " + t.Call.Carrier + " put through"
		return
	}
	t.Refusal, t.Why = true, reasons[t.Call.Reason]
	t.Text = "call of " + t.Call.Carrier + " refused: " + strings.ReplaceAll(t.Call.Reason, "_", " ")
}

func (t *told) status() {
	t.Text = t.Status.Leg + "'s leg " + strings.ReplaceAll(t.Status.Status, "_", " ")
	if t.Status.DurationS > 0 {
		t.Text += fmt.Sprintf(" after %d s", t.Status.DurationS)
	}
	if t.Status.Cause != "" {
		t.Why = "the carrier's word for it: " + t.Status.Cause
	}
}

func (t *told) assigned() {
	parties := make([]string, len(t.Parties))
	for i, p := range t.Parties {
		parties[i] = p.Role + " by " + p.VN
	}
	t.Text = "assigned until " + t.Until.UTC().Format("2006-01-02 15:04:05") + ": " + strings.Join(parties, ", ")
}

// CallID returns the id of the call that an event is about, if any.
func (t *told) CallID() string {
	switch {
	case t.Call != nil:
		return t.Call.CallID
	case t.Status != nil:
		return t.Status.CallID
	}
	return ""
}

// Number returns the VN that an event is about, if any.
func (t *told) Number() string {
	switch {
	case t.Call != nil:
		return t.Call.VN
	case t.Message != nil:
		return t.Message.VN
	}
	return ""
}
