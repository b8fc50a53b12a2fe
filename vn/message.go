package vn

// Message is an incoming text message as a carrier's webhook describes it. Its slices
// may point into the request's buffer: whoever keeps them beyond the request copies them.
type Message struct {
	// ID is the carrier's id of the message, empty when it sent none.
	ID []byte
	// Called is the VN written to, Calling the number that writes; 0 when it is no number.
	Called, Calling Number
	// Text is the whole text, UTF-8, as the carrier joined it.
	Text []byte
	// Media is how many files came with the text.
	Media int
	// OptOut tells that the carrier itself took the message for a request to stop,
	// to start again, or for help.
	OptOut bool
}

// Verdict says what becomes of a Message.
type Verdict uint8

// The verdicts. Their order is fixed: metrics are arrays over it.
const (
	// Relay sends Message.Text to Decision.Destination, from Decision.CallerID.
	Relay Verdict = iota
	// Drop sends nothing to anybody: no live binding (a stranger learns nothing), or a
	// word such as STOP, which is meant for the carrier.
	Drop
	// RefuseMedia tells the sender that files cannot be sent. Only a party of a live
	// order is told.
	RefuseMedia
	// TryLater means that the decision could not be made: the carrier should ask its
	// fallback.
	TryLater
	Verdicts = iota
)

var verdicts = [Verdicts]string{Relay: "relayed", Drop: "dropped", RefuseMedia: "media_refused", TryLater: "unavailable"}

// String returns the verdict's name in events and metrics.
func (v Verdict) String() string { return verdicts[v] }
