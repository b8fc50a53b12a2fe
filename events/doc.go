// Package events is callmask's side of NATS JetStream: the streams, the subjects,
// the payloads, the durable ledger and the consumers. Nothing else imports nats.go.
//
//	orders.*  ──Consume──▶  handler ──▶ Done | Wait | Retry | Dead ──▶ dead.orders.*  (sealed)
//	Record    ──▶  ledger.vn.<VN>     last record of each VN, acknowledged
//	Assigned, Released, Failed  ──▶  vn.*      PoolLow ──▶ pools.low
//	Decided   ──▶  calls.decided      asynchronous, bounded, dropped when too many
//
// Delivery is at least once in both directions: handlers must be idempotent, and
// every message published has a Nats-Msg-Id by which the stream drops a repeat.
package events
