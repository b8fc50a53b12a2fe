package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Host is what simulated number APIs stand on: faults on demand, a latency, and a
// server on the loopback interface. It is safe for concurrent use.
type Host struct {
	stopping chan struct{}
	stop     sync.Once
	listener net.Listener

	mu      sync.Mutex
	faults  []Fault
	latency time.Duration
}

// NewHost returns a host whose requests take latency at least.
func NewHost(latency time.Duration) *Host {
	return &Host{stopping: make(chan struct{}), latency: latency}
}

// Answer is what a request is answered with: Body as JSON; nil sends none.
type Answer struct {
	Status int
	Body   any
}

// Write sends the answer.
func (a Answer) Write(w http.ResponseWriter) {
	if a.Body == nil {
		w.WriteHeader(a.Status)
		return
	}
	body, err := json.Marshal(a.Body)
	if err != nil {
		http.Error(w, "cannot write the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(a.Status)
	_, _ = w.Write(body) // the client may be gone
}

// Handle lets a request take its time, does its work under the fault it meets, and
// answers. refuse writes the API's own form of an error with this status.
func (h *Host) Handle(w http.ResponseWriter, r *http.Request, op Op, refuse func(status int) Answer, work func(Fault) Answer) {
	h.mu.Lock()
	fault, latency := h.takeFault(op), h.latency
	h.mu.Unlock()
	if latency > 0 && !h.wait(r, latency) {
		panic(http.ErrAbortHandler) // the client or the server has gone: there is nobody to answer
	}
	switch fault.Kind {
	case Fail:
		refuse(orStatus(fault, http.StatusInternalServerError)).Write(w)
		return
	case Throttle:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.FormatInt(int64((fault.RetryAfter+time.Second-1)/time.Second), 10))
		}
		refuse(http.StatusTooManyRequests).Write(w)
		return
	}
	result := work(fault)
	switch fault.Kind {
	case HangUp:
		panic(http.ErrAbortHandler) // net/http's way to drop the connection
	case Hang:
		select {
		case <-r.Context().Done():
		case <-h.stopping:
		}
		panic(http.ErrAbortHandler)
	case Garble:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(orStatus(fault, http.StatusOK))
		_, _ = io.WriteString(w, "<html><body>We'll be right back.</body></html>") // the client may be gone
		return
	}
	result.Write(w)
}

func orStatus(f Fault, otherwise int) int {
	if f.Status == 0 {
		return otherwise
	}
	return f.Status
}

// wait lets d pass; false when the client or the server went meanwhile.
func (h *Host) wait(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
	case <-h.stopping:
	}
	return false
}

// Listen opens the address, such as 127.0.0.1:0 for any free port. Other than
// loopback addresses are refused: the numbers and the token are play money. It is
// called once, before Serve and URL.
func (h *Host) Listen(ctx context.Context, addr string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("sim: listen: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return errors.Join(errors.New("sim: listen: the simulated carrier serves loopback addresses only, such as 127.0.0.1:0"), l.Close())
	}
	h.listener = l
	return nil
}

// URL returns the address of the API, what a number client takes as its api_url;
// empty before Listen.
func (h *Host) URL() string {
	if h.listener == nil {
		return ""
	}
	return "http://" + h.listener.Addr().String()
}

// Serve serves the API until ctx ends, finishes the requests in flight (5 s at most)
// and returns nil. It needs Listen before and can run once.
func (h *Host) Serve(ctx context.Context, api http.Handler) error {
	if h.listener == nil {
		return errors.New("sim: run: call Listen first")
	}
	srv := &http.Server{
		Handler: api, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(h.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("sim: serve: %w", err)
	case <-ctx.Done():
	}
	h.stop.Do(func() { close(h.stopping) })
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		err = fmt.Errorf("sim: stop: %w", errors.Join(err, srv.Close()))
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("sim: serve: %w", ended))
	}
	return err
}
