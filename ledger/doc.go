// Package ledger keeps the order in which a change of a VN becomes true: Redis has
// committed it, then the ledger accepts it, then the apps hear of it, and only then
// is it settled.
//
//	Allocate ─▶ `assigned` of every VN ─▶ vn.assigned ─▶ SettleAssigned
//	Release  ─▶ `released` (`retired`) ─▶ vn.released ─▶ SettleReleased
//	`owned`  ─▶ Refill                    Drain ─▶ `retired`
//
// A crash between two steps is healed by doing the same again: every step may be
// repeated, and what is settled is not published a second time.
package ledger
