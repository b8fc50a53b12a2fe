package replenisher

import "fmt"

// Diff is what a comparison of a carrier's list with our inventory found, and what was
// done about it.
type Diff struct {
	Carrier string `json:"carrier"`
	DryRun  bool   `json:"dry_run"` // nothing was done; the rows tell what would be
	// Brake says why nothing was done although it was no dry run, or would not be;
	// empty when there is no such reason.
	Brake    string `json:"brake,omitempty"`
	Listed   int    `json:"listed"`   // numbers in the carrier's list
	Ours     int    `json:"ours"`     // VNs of ours that belong to the carrier
	Agreed   int    `json:"agreed"`   // in both
	Imported int    `json:"imported"` // imported, and not in the list: left alone
	Foreign  int    `json:"foreign"`  // in the list, and nothing to do with us: left alone
	Failed   int    `json:"failed"`   // rows whose action failed
	Rows     []Row  `json:"rows"`     // what is not as it should be, by VN
}

// Row is one number that is not as it should be.
type Row struct {
	VN     string `json:"vn"` // E.164
	Pool   string `json:"pool,omitempty"`
	Action Action `json:"action"`
	Detail string `json:"detail"`
	Error  string `json:"error,omitempty"` // why the action failed; the next comparison tries again
}

// Action is what is done about a Row.
type Action string

// The actions.
const (
	Adopt     Action = "adopt"     // paid for and in no pool, or in one that does not say so: that is put right
	Configure Action = "configure" // its calls do not come to us, or it is not set up as it should be; it will be
	Remove    Action = "remove"    // the carrier has it no more; it leaves its pool, a leased one when its order ends
	GiveBack  Action = "release"   // its release was cut short; it is finished
	Wait      Action = "wait"      // too early to tell; nothing is done now
	Report    Action = "report"    // somebody has to decide; nothing is done
)

// BrakeError says that a comparison found so much missing that its list is rather
// wrong than right. Nothing was changed.
type BrakeError struct {
	Carrier string
	Missing int // VNs bought from the carrier that its list lacks
	Bought  int // VNs bought from the carrier
	Diff    Diff
}

func (e *BrakeError) Error() string {
	return fmt.Sprintf("too_many_missing: the list of carrier %s lacks %d of the %d numbers bought there; nothing was changed. "+
		"If the carrier really has them no more, run `callmask pool reconcile %s --force`, and again some minutes later", e.Carrier, e.Missing, e.Bought, e.Carrier)
}

// missingShare is the share of the numbers bought from a carrier (one in so many) that
// one list may lack before it is taken for a wrong one. A single number always may,
// unless it was the only one.
const missingShare = 10

func brake(missing, bought, listed int) bool {
	return missing > max(1, bought/missingShare) || listed == 0 && missing > 0
}
