package sim

import "time"

// Op is one request of the number API.
type Op string

// The requests of the number API. The empty Op stands for all of them.
const (
	OpSearch    Op = "search"
	OpBuy       Op = "buy"
	OpConfigure Op = "configure"
	OpList      Op = "list"
	OpRelease   Op = "release"
)

// FaultKind is what goes wrong.
type FaultKind string

// What can go wrong.
const (
	// Fail answers Fault.Status (0: 500); nothing is done.
	Fail FaultKind = "fail"
	// Throttle answers 429 with Retry-After; nothing is done.
	Throttle FaultKind = "throttle"
	// HangUp does the work and drops the connection instead of answering.
	HangUp FaultKind = "hang_up"
	// Hang does the work and stays silent until the client gives up.
	Hang FaultKind = "hang"
	// Garble does the work and answers Fault.Status (0: 200) with an HTML page.
	Garble FaultKind = "garble"
	// Partial (OpBuy only) sells the number, loses what came with it (reference,
	// webhook), and answers without its id.
	Partial FaultKind = "partial"
	// Snatch (OpBuy only) sells the number to somebody else at that moment.
	Snatch FaultKind = "snatch"
)

// Fault makes the next Times requests of Op go wrong.
type Fault struct {
	Op         Op
	Kind       FaultKind
	Times      int           // 0 means 1
	Status     int           // of Fail and Garble
	RetryAfter time.Duration // of Throttle, whole seconds; 0 sends no Retry-After
}

// Inject adds a fault behind those that are still waiting. Each request meets at most
// one of them, the first that fits.
func (h *Host) Inject(f Fault) {
	f.Times = max(1, f.Times)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, f)
}

// ClearFaults takes back every fault that has not happened yet.
func (h *Host) ClearFaults() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
}

// SetLatency makes every request take at least d.
func (h *Host) SetLatency(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latency = d
}

// takeFault returns the fault that op meets, and counts it. mu is held.
func (h *Host) takeFault(op Op) Fault {
	for i := range h.faults {
		f := h.faults[i]
		if (f.Op != "" && f.Op != op) || ((f.Kind == Snatch || f.Kind == Partial) && op != OpBuy) {
			continue
		}
		if h.faults[i].Times--; h.faults[i].Times == 0 {
			h.faults = append(h.faults[:i], h.faults[i+1:]...)
		}
		return f
	}
	return Fault{}
}
