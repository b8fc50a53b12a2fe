package events

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The headers of the CloudEvents attributes (CloudEvents 1.0, binary mode of its NATS
// binding). nats.go keeps the case of a header's name.
const (
	headerSpecVersion = "ce-specversion"
	headerType        = "ce-type"
	headerSource      = "ce-source"
	headerID          = "ce-id"
	headerTime        = "ce-time"

	specVersion = "1.0"
	// source is the same for every process: a repeat by another one is the same event,
	// and CloudEvents tells events apart by source and id.
	source     = "/callmask"
	typePrefix = "com.github.callmask."
)

// EventType returns the ce-type of a message on a subject of ours: the subject without
// what names one pool, one number or one dead letter's origin.
func EventType(subject string) string {
	switch {
	case strings.HasPrefix(subject, subjectDead):
		return typePrefix + "dead"
	case strings.HasPrefix(subject, subjectLedgerVN):
		return typePrefix + "ledger.vn"
	case strings.HasPrefix(subject, subjectLedgerIntent):
		return typePrefix + "ledger.intent"
	case strings.HasPrefix(subject, subjectLedgerLease):
		return typePrefix + "ledger.lease"
	default:
		return typePrefix + subject
	}
}

// headers returns what every message of ours carries: its message id, and the
// attributes of the event that it tells of, which happened at at.
func headers(subject, id string, at time.Time) nats.Header {
	h := nats.Header{
		jetstream.MsgIDHeader: {""}, headerSpecVersion: {specVersion}, headerType: {""}, headerSource: {source}, headerID: {""}, headerTime: {""},
	}
	setHeaders(h, subject, id, at)
	return h
}

// setHeaders makes what headers returned the headers of another message.
func setHeaders(h nats.Header, subject, id string, at time.Time) {
	h[jetstream.MsgIDHeader][0], h[headerID][0] = id, id
	h[headerType][0], h[headerTime][0] = EventType(subject), at.UTC().Format(time.RFC3339Nano)
}
