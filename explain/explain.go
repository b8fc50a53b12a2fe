package explain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// Store is what an Explainer needs of *scripts.Store.
type Store interface {
	Explain(ctx context.Context, called, calling vn.Number) (*scripts.Facts, error)
	Inventory(ctx context.Context, number vn.Number) (scripts.Inventory, error)
}

// Audit keeps an entry for good, or says that it could not. *events.Bus is one.
type Audit interface {
	Audit(ctx context.Context, e events.AuditEntry) error
}

// Config says what an Explainer has to know of the settings.
type Config struct {
	Regions  map[string]string // of every pool, by name: how people there write national numbers
	Carriers map[string]byte   // the byte of every carrier, by name
}

// Explainer explains decisions. It is safe for concurrent use.
type Explainer struct {
	config Config
	store  Store
	audit  Audit
	now    func() time.Time
}

// New returns an Explainer.
func New(config Config, store Store, audit Audit) *Explainer {
	return &Explainer{config: config, store: store, audit: audit, now: time.Now}
}

// Ask is the call to explain.
type Ask struct {
	Called  string // the VN that is dialled
	Calling string // who dials; empty or "anonymous" for a withheld number
	Carrier string // whose webhook announces the call; empty: that of the VN's own carrier
	// Reveal shows real numbers in clear.
	Reveal bool
}

// Person is who asks, for the audit.
type Person struct{ Name, Role, From string }

// The judgements of a Step.
const (
	Passed  = "passed"  // the call may go on
	Refused = "refused" // this step is why it is refused
	Noted   = "noted"   // it decides nothing, and may explain something
	Skipped = "skipped" // an earlier step has decided
)

// Step is one step of a decision.
type Step struct {
	Name   string `json:"step"`
	Result string `json:"result"`
	Detail string `json:"detail"`
}

// Explanation is a decision with all that it rests on. Called is in clear when it is a VN of
// ours; Calling and Destination are masked, unless they were asked for.
type Explanation struct {
	Action      string     `json:"action"` // connect or reject
	Reason      string     `json:"reason"` // vn.Reason's name
	SIPCode     int        `json:"sip_code"`
	Called      string     `json:"called"`
	Calling     string     `json:"calling"`
	Destination string     `json:"destination,omitempty"`
	CallerID    string     `json:"caller_id,omitempty"` // the VN that the other party sees
	Pool        string     `json:"pool,omitempty"`
	Carrier     string     `json:"carrier,omitempty"` // the VN's
	State       string     `json:"state,omitempty"`   // of the VN
	OrderID     string     `json:"order_id,omitempty"`
	LeaseEnd    *time.Time `json:"lease_end,omitempty"`
	KeyID       *byte      `json:"key_id,omitempty"` // the key that the binding was made with
	Partition   int        `json:"partition"`
	Node        string     `json:"node,omitempty"` // of Redis
	Advice      string     `json:"advice,omitempty"`
	Revealed    bool       `json:"revealed"`
	Steps       []Step     `json:"steps"`
}

// Explain says what would become of a call now.
//
// Errors: *vn.FieldError for what cannot be asked; vn.ErrUnavailable when Redis does not
// answer, or when the audit does not take the entry of a reveal: then nothing is shown.
func (e *Explainer) Explain(ctx context.Context, ask Ask, by Person) (*Explanation, error) {
	called, calling, err := e.read(ctx, &ask)
	if err != nil {
		return nil, err
	}
	facts := &scripts.Facts{}
	if calling == 0 {
		facts, err = e.store.Explain(ctx, called, called) // nobody's own binding: the VN alone is of interest
		if err == nil {
			facts.Decision = vn.Decision{Reason: vn.CallerWithheld}
		}
	} else {
		facts, err = e.store.Explain(ctx, called, calling)
	}
	if err != nil {
		return nil, err
	}
	if ask.Reveal {
		if err := e.note(ctx, called, facts, by); err != nil {
			return nil, err
		}
	}
	t := &telling{config: &e.config, ask: &ask, called: called, calling: calling, facts: facts, now: e.now().UTC()}
	return t.tell(), nil
}

// read normalises the numbers: a national one is read as in the region of the VN's pool.
func (e *Explainer) read(ctx context.Context, ask *Ask) (called, calling vn.Number, err error) {
	if ask.Carrier != "" {
		if _, ok := e.config.Carriers[ask.Carrier]; !ok {
			return 0, 0, &vn.FieldError{Field: "carrier", Problem: "is no configured carrier"}
		}
	}
	if called, err = numbering.Parse(strings.TrimSpace(ask.Called), ""); err != nil {
		return 0, 0, &vn.FieldError{Field: "called", Problem: err.Error()}
	}
	ask.Calling = strings.TrimSpace(ask.Calling)
	if withheld(ask.Calling) {
		return called, 0, nil
	}
	inv, err := e.store.Inventory(ctx, called)
	if err != nil && !errors.Is(err, vn.ErrNumberUnknown) {
		return 0, 0, err
	}
	if calling, err = numbering.Parse(ask.Calling, e.config.Regions[inv.Pool]); err != nil {
		return 0, 0, &vn.FieldError{Field: "calling", Problem: err.Error()}
	}
	return called, calling, nil
}

// withheld tells whether a caller gives no number; each carrier has a word of its own for it.
func withheld(calling string) bool {
	return calling == "" || slices.ContainsFunc([]string{"anonymous", "withheld", "restricted", "unknown"}, func(word string) bool {
		return strings.EqualFold(word, calling)
	})
}

// errNotNoted means that a reveal could not be written down, and so was none.
var errNotNoted = errors.New("the audit (stream AUDIT) does not take the entry, so no number is shown")

// note writes into the audit that numbers are about to be shown.
func (e *Explainer) note(ctx context.Context, called vn.Number, facts *scripts.Facts, by Person) error {
	target := "a number that is not ours"
	if facts.Inventory != nil {
		target = called.E164()
	}
	err := e.audit.Audit(ctx, events.AuditEntry{
		ID: events.NewAuditID(), Who: by.Name, Role: by.Role, From: by.From, Action: events.AuditReveal, Target: target,
		Outcome: events.AuditDone, Detail: "the numbers of a call were explained in clear",
	})
	if err != nil {
		return fmt.Errorf("%w (%w: %w)", errNotNoted, vn.ErrUnavailable, err)
	}
	return nil
}
