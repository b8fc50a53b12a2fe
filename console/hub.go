package console

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// mostWatchers bounds the connections that are kept open.
	mostWatchers = 500
	// behind is how many updates a watcher may not have taken yet; one more drops it.
	behind = 2
	// watchFor is how long one connection lasts; the browser makes another, which also
	// renews the sign-in.
	watchFor = 15 * time.Minute
	// writeFor bounds the writing of one update.
	writeFor = 10 * time.Second
)

// view is what somebody watches: a page with its filter.
type view struct {
	Name   string // overview, stock, pool or calls
	Filter string // of stock: part of a pool's name; of pool: its name
	Page   int    // of stock, from 1
}

// watcher is one connection.
type watcher struct {
	view    view
	updates chan []byte // closed when the watcher is dropped
}

// hub gives each update to all who watch.
type hub struct {
	came chan struct{} // somebody has begun to watch

	mu     sync.Mutex
	all    map[*watcher]struct{}
	closed bool

	dropped prometheus.Counter
	signIns *prometheus.CounterVec // result
}

func newHub(reg prometheus.Registerer) (*hub, error) {
	h := &hub{
		came: make(chan struct{}, 1), all: make(map[*watcher]struct{}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "callmask_console_dropped_watchers_total", Help: "Watchers that took updates too slowly and were let go.",
		}),
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "callmask_console_sign_ins_total", Help: "Sign-ins by result: operator, read-only or refused.",
		}, []string{"result"}),
	}
	watching := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callmask_console_watchers", Help: "Pages of the console that are kept up to date at this moment.",
	}, func() float64 { return float64(h.watchers()) })
	for _, c := range []prometheus.Collector{h.dropped, h.signIns, watching} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("console: metrics: %w", err)
		}
	}
	return h, nil
}

func (h *hub) watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all)
}

// join adds a watcher; nil when there are too many, or the console has ended.
func (h *hub) join(v view) *watcher {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.all) >= mostWatchers {
		return nil
	}
	w := &watcher{view: v, updates: make(chan []byte, behind)}
	h.all[w] = struct{}{}
	h.wake()
	return w
}

// wake lets the next reading come soon.
func (h *hub) wake() {
	select {
	case h.came <- struct{}{}:
	default: // it comes already
	}
}

func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeLocked(w)
}

func (h *hub) removeLocked(w *watcher) {
	if _, ok := h.all[w]; ok {
		delete(h.all, w)
		close(w.updates)
	}
}

// tell gives everybody an update of what they watch, each view rendered once. It waits for
// nobody.
func (h *hub) tell(render func(view) []byte) {
	h.mu.Lock()
	byView := make(map[view][]*watcher)
	for w := range h.all {
		byView[w.view] = append(byView[w.view], w)
	}
	h.mu.Unlock()
	for v, watchers := range byView {
		update := render(v)
		h.mu.Lock()
		for _, w := range watchers {
			if _, here := h.all[w]; !here {
				continue
			}
			select {
			case w.updates <- update:
			default:
				h.dropped.Inc()
				h.removeLocked(w)
			}
		}
		h.mu.Unlock()
	}
}

// close lets everybody go.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.all {
		h.removeLocked(w)
	}
}

// getLive keeps a connection open and writes updates to it, as server-sent events (HTML
// standard, section 9.2).
func (c *Console) getLive(w http.ResponseWriter, r *request) {
	q := r.URL.Query()
	v := view{Name: q.Get("view"), Filter: q.Get("q")}
	v.Page, _ = strconv.Atoi(q.Get("page")) // what is no number is the first page
	v.Page = max(1, v.Page)
	if !known(v.Name) || len(v.Filter) > maxFilter {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	watcher := c.hub.join(v)
	if watcher == nil {
		w.Header().Set("Retry-After", "10")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer c.hub.leave(watcher)
	until := min(watchFor, time.Unix(r.who.Until, 0).Sub(c.now()))
	end := time.NewTimer(until)
	defer end.Stop()
	rc := http.NewResponseController(w)
	// The time limits of the private listener are for requests that end.
	if err := rc.SetReadDeadline(time.Time{}); err != nil {
		c.log.Debug().Err(err).Msg("a watcher's connection keeps its time limit")
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // or a proxy may keep updates back
	if !send(rc, w, c.render(&v, c.snap.Load(), true)) {
		return
	}
	for {
		select {
		case update, ok := <-watcher.updates:
			if !ok || !send(rc, w, update) {
				return
			}
		case <-end.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// send writes one update, a line of JSON, and tells whether it was taken in time.
func send(rc *http.ResponseController, w http.ResponseWriter, update []byte) bool {
	if err := rc.SetWriteDeadline(time.Now().Add(writeFor)); err != nil {
		return false
	}
	_, err := fmt.Fprintf(w, "retry: 2000\ndata: %s\n\n", update)
	return err == nil && rc.Flush() == nil
}
