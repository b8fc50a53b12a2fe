package events

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What people do that the audit keeps: the second token of its subjects.
const (
	AuditReveal        = "reveal"         // a real number was shown
	AuditReleaseOrder  = "release_order"  // an order was ended
	AuditDrainNumber   = "drain_number"   // a VN was taken out of its pool
	AuditTopUp         = "top_up_pool"    // numbers were asked for
	AuditPauseCarrier  = "pause_carrier"  // nothing is bought of a carrier any more
	AuditResumeCarrier = "resume_carrier" // and again
	AuditErase         = "erase_order"    // what is kept of an order's parties was erased
	AuditSignIn        = "sign_in"        // to the console
	AuditSignInRefused = "sign_in_refused"
)

// How far an action has come.
const (
	AuditAsked  = "asked"  // it is about to be done
	AuditDone   = "done"   // it was done
	AuditFailed = "failed" // it was not done, or not to its end
)

// AuditEntry is the payload of audit.<action>: one thing that a person did, or was about
// to. It holds no real number.
type AuditEntry struct {
	ID      string    `json:"id"` // the entries of one action share it
	At      time.Time `json:"at"`
	Who     string    `json:"who"`            // the name given at sign-in or by the terminal, which nothing proves; empty for the API
	Role    string    `json:"role"`           // operator, read-only, api, or cli for a command beside the running system
	From    string    `json:"from,omitempty"` // the address that the request came from
	Action  string    `json:"action"`
	Target  string    `json:"target,omitempty"` // an order's id, a VN, a pool or a carrier
	Outcome string    `json:"outcome"`
	Detail  string    `json:"detail,omitempty"`
}

// NewAuditID returns an id for the entries of one action.
func NewAuditID() string { return rand.Text() }

// Audit stores an entry in stream AUDIT, from which nothing is ever deleted before its
// time, and waits until it is there. Its message id is audit:<id>:<outcome>.
func (b *Bus) Audit(ctx context.Context, e AuditEntry) error {
	e.At = time.Now().UTC()
	return b.publish(ctx, subjectAudit+e.Action, "audit:"+e.ID+":"+e.Outcome, e)
}

// AuditTrail returns the last entries, at most most of them, newest first.
func (b *Bus) AuditTrail(ctx context.Context, most int) ([]AuditEntry, error) {
	var all []AuditEntry
	err := b.readLast(ctx, streamAudit, uint64(max(0, most)), func(m jetstream.Msg) {
		var e AuditEntry
		if json.Unmarshal(m.Data(), &e) == nil { // what cannot be read is not ours
			all = append([]AuditEntry{e}, all...)
		}
	})
	return all, err
}
