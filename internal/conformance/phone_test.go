package conformance

import (
	"net/http"
	"time"
)

// phone plays one kind of carrier towards the router: it makes the requests as the
// carrier makes them and reads the answers as the carrier would.
type phone interface {
	// settings is the carrier's entry of callmask.yaml as lines `key: value`, without name, kind
	// and id, with two keys where the scheme rotates keys. publicURL is what the
	// carrier believes to call; the requests go somewhere else.
	settings(publicURL string) []string
	// ring makes the request that announces a call.
	ring(c ringing) *http.Request
	// heard reads the answer to it.
	heard(status int, contentType string, body []byte) (outcome, error)
	// window is how old a request may be; 0 where the scheme has no time stamp.
	window() time.Duration
	// withheld are the ways in which this carrier announces a caller without number.
	withheld() []string
}

// texter is a phone whose carrier takes a message as the answer to a message.
type texter interface {
	text(m texting) *http.Request
	relayed(status int, contentType string, body []byte) (relay, error)
}

// watcher is a phone whose carrier tells what became of a call. callback is the URL
// that the connect answer asked for, as outcome has it; empty where that is set in the
// carrier's dashboard.
type watcher interface {
	// progress makes the request that tells it, nil for a status that the carrier never tells.
	progress(p telling) *http.Request
}

// ringing is one call announced. Numbers are +E.164; the phone writes them as its
// carrier does.
type ringing struct {
	to       string // base URL of the router under test, http://127.0.0.1:port
	public   string // base URL that the carrier believes to call, and signs
	path     string // such as /v1/carriers/x/voice
	key      int    // 0 or 1: which of the two keys signs; -1: a key that is not ours
	at       time.Time
	id       string
	calling  string // or one of withheld(), written as it is
	called   string
	hostile  string // when set: put into every field that the router does not need, as its value
	tampered bool   // change one byte of what is signed, after signing
}

// outcome is what the carrier does next.
type outcome struct {
	connect     bool
	destination string // +E.164
	callerID    string // +E.164
	orderID     string // as the callback URL carries it; empty where there is none
	callback    string // URL for call progress
	refused     bool   // a valid refusal in the carrier's own form
	fallback    bool   // the carrier would turn to its fallback now
}

type texting struct {
	ringing

	body  string
	media int
}

// relay is the message that the carrier sends next.
type relay struct {
	sent bool   // a message goes out
	to   string // +E.164; the sender's own number when it goes back
	from string // +E.164
	text string
}

// telling is one callback about a call.
type telling struct {
	ringing

	callback string // outcome.callback
	status   string // ringing, answered, completed, busy, no_answer, cancelled, failed: of the callee's leg
	seconds  int    // how long they talked
}
