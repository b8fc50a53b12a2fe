// Package audit holds a running callmask against its promises.
//
//	what is        Redis by itself (scripts.Store.Survey), and Redis against the last ledger
//	               record of every VN: compare.go
//	what was       the history of the ledger, of assignments and of calls: History, whose
//	               rules are small functions over one event after the other
//
// Nothing here changes anything but Repair, which has a Restorer make Redis say what the
// ledger says. What is in flight is no violation: it is looked at again until it persists.
//
// An Auditor keeps about two hundred bytes for each VN and live order, so that a round
// reads of the streams only what came since the last one.
package audit
