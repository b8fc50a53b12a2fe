// Package chaos is tests only: a whole callmask of many processes under load, while Redis,
// NATS and callmask's own processes are killed, frozen, cut off from each other, emptied,
// filled up and restarted with old files, all of it at random.
//
//	shop, caller ─▶ world: what was asked for, what was promised, what every call heard
//	nemesis      ─▶ faults, each counted by its kind
//	follower     ─▶ the history of the ledger and of announcements, record by record
//	judges       ─▶ calls (judge), assignments (kept, leaked), every number's life (model: porcupine),
//	                the history (package audit), Redis against the ledger (callmask check)
//
// `make chaos` runs it: CHAOS_SEED sets the order of the faults and the choices of the load,
// CHAOS_TIME how long, CHAOS_FAULTS which. The judges are tried on forged histories, and
// CHAOS_PLANTED builds a bug into callmask that they must find.
package chaos
