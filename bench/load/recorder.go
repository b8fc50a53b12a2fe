package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Recorder collects latencies that are not made by the generator. It is safe for
// concurrent use.
type Recorder struct {
	mu   sync.Mutex
	hist *hdrhistogram.Histogram
}

// NewRecorder returns an empty Recorder.
func NewRecorder() *Recorder { return &Recorder{hist: newHistogram()} }

// Record adds one latency.
func (r *Recorder) Record(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	record(r.hist, d)
}

// Latency returns the distribution of what was recorded.
func (r *Recorder) Latency() Latency {
	r.mu.Lock()
	defer r.mu.Unlock()
	return latency(r.hist)
}
