package sim

import (
	"net/http"
	"time"
)

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
	// Garble does the work and answers 200 with an HTML page.
	Garble FaultKind = "garble"
	// Snatch (OpBuy only) sells the number to somebody else at that moment.
	Snatch FaultKind = "snatch"
)

// Fault makes the next Times requests of Op go wrong.
type Fault struct {
	Op         Op
	Kind       FaultKind
	Times      int           // 0 means 1
	Status     int           // of Fail
	RetryAfter time.Duration // of Throttle, whole seconds; 0 sends no Retry-After
}

// Inject adds a fault behind those that are still waiting. Each request meets at most
// one of them, the first that fits.
func (s *Server) Inject(f Fault) {
	f.Times = max(1, f.Times)
	if f.Status == 0 {
		f.Status = http.StatusInternalServerError
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

// ClearFaults takes back every fault that has not happened yet.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// SetLatency makes every request take at least d.
func (s *Server) SetLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// takeFault returns the fault that op meets, and counts it. mu is held.
func (s *Server) takeFault(op Op) Fault {
	for i := range s.faults {
		f := s.faults[i]
		if (f.Op != "" && f.Op != op) || (f.Kind == Snatch && op != OpBuy) {
			continue
		}
		if s.faults[i].Times--; s.faults[i].Times == 0 {
			s.faults = append(s.faults[:i], s.faults[i+1:]...)
		}
		return f
	}
	return Fault{}
}
