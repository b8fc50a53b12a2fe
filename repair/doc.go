// Package repair brings Redis back to what the ledger says, by itself, while traffic goes
// on: after a failover to a server that had not heard of everything, a restart with old
// files, the loss of all data, or a race lost in the ledger.
//
//	every second: who serves each partition? ─▶ another than the one it was whole on ─▶ Replay
//	                                         ─▶ not ready: it has lost everything    ─▶ Replay, ready
//	the ledger refuses a record             ─▶ Conflict                              ─▶ Restore
//
// Any number of Watchers may do the same at the same time: what Redis knows already costs
// little to be told again, and changes nothing.
package repair
