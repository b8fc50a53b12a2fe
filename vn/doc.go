// Package vn holds the words of callmask: numbers, parties, orders, assignments,
// calls, decisions and errors. It depends on the standard library alone and does
// no input or output, so every other package may import it.
//
//	Order{Parties}  ──allocator──▶  Assignment{one VN per party}
//	Call{Calling, Called}  ──router──▶  Decision{Destination, CallerID | Reason}
package vn
