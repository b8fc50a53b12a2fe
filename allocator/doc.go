// Package allocator turns orders into assignments. Events and the HTTP API go
// through the same methods, so both leave the same records and events behind.
//
//	orders.assigned ──────▶ Assign ──▶ Store.Allocate ──▶ Ledger.Assign ──▶ ack
//	PUT /v1/orders/{id} ──▶    │
//	orders.completed ─────▶  End   ──▶ Store.Release  ──▶ Ledger.End    ──▶ ack
//	DELETE /v1/orders/{id}▶    │
//	                  free < low water ──▶ pools.low
//
// An event whose pool is empty waits in JetStream, a request is told so at once.
package allocator
