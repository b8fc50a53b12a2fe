// Package replenisher keeps the pools stocked: it buys numbers where a pool runs
// low, and (as its own type, Reaper) brings the VNs of ended leases back.
//
//	pools.low, orders.placed ─┐                          ┌─▶ Buy ─▶ Configure ─▶ Ledger.Own ─┐
//	sweep every 10 s ─────────┴─▶ one worker per pool ───┤   intent written ……………… closed  ├─▶ free
//	                              need = target - free - open intents                       ─┘
//	                              low water, target: package forecast, within the settings
//	every hour ─▶ List ─▶ compared with the inventory ─▶ adopted, configured, removed, given back
//	every second ─▶ Store.Reap ─▶ Ledger.End: ledger `released`, vn.released, settled
//
// Money: an intent for one exact number is in the ledger before that number is
// bought. What became of an open intent is asked from the carrier's list, never
// guessed, and until that is known it counts as bought. The intents are also the
// account of what a pool costs, which its monthly cap is held against.
//
// A number that is given back (Release, surplus) has that noted in its intent first:
// `releasing` ─▶ out of its pool ─▶ Release ─▶ pools.released ─▶ `released`. Whoever finds
// the note goes on. Taking a number out of its pool alone does not give it back.
//
// However many processes run, one acts for a pool: it holds the pool's lease, and the
// stream refuses the intents of any other (docs/adr/0007).
package replenisher
