package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"path"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/internal/privateapi"
)

// listen opens both listeners, so that a port that is taken stops the start before
// anything else has begun, and serves the private one.
func (a *App) listen(ctx context.Context) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", a.set.AdminAddr)
	if err != nil {
		return settings.Named("admin_addr", err)
	}
	a.at.Admin = host(ln.Addr())
	srv := &http.Server{
		Handler: a.private(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Minute,
		WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: nil, // replaced below
	}
	srv.ErrorLog = a.stdLog("admin")
	a.admin = a.newStage(ctx, "admin listener")
	a.admin.run("admin listener", func(ctx context.Context) error { return serve(ctx, srv, ln, a.set.ShutdownTimeout/2) })
	if !a.has(settings.Router) {
		return nil
	}
	if a.httpLn, err = lc.Listen(ctx, "tcp", a.set.HTTPAddr); err != nil {
		return settings.Named("http_addr", err)
	}
	a.at.HTTP = host(a.httpLn.Addr())
	a.onEnd("listener for carriers", func(context.Context) error {
		if a.httpLn == nil {
			return nil // the router has taken it over
		}
		return a.httpLn.Close()
	})
	return nil
}

// drainAPI is the step of the shutdown at which the private listener ends: after the
// calls are drained and before what answers its requests is taken away.
func (a *App) drainAPI(context.Context) error {
	a.onEnd("private API", func(ctx context.Context) error {
		if !a.has(settings.Router) { // which has waited itself
			wait := time.NewTimer(a.set.DrainDelay)
			defer wait.Stop()
			select {
			case <-wait.C:
			case <-ctx.Done():
			}
		}
		return a.admin.end(ctx)
	})
	return nil
}

// serve answers requests until ctx ends, and then for last those in flight.
func serve(ctx context.Context, srv *http.Server, ln net.Listener, last time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), last)
	defer cancel()
	err := srv.Shutdown(end)
	if err != nil {
		err = srv.Close() // whoever still reads is cut off
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}

// private is the handler of the private listener.
func (a *App) private() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("alive\n")) // a reader that has gone needs no answer
	})
	mux.HandleFunc("GET /readyz", a.readyz)
	metrics := promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{ErrorLog: a.stdLog("metrics")})
	mux.Handle("GET /metrics", a.guarded(metrics))
	mux.Handle("/debug/pprof/", a.guarded(http.HandlerFunc(pprof.Index)))
	mux.Handle("/debug/pprof/cmdline", a.guarded(http.HandlerFunc(pprof.Cmdline)))
	mux.Handle("/debug/pprof/profile", a.guarded(http.HandlerFunc(pprof.Profile)))
	mux.Handle("/debug/pprof/symbol", a.guarded(http.HandlerFunc(pprof.Symbol)))
	mux.Handle("/debug/pprof/trace", a.guarded(http.HandlerFunc(pprof.Trace)))
	mux.HandleFunc("/", a.api)
	// The mux answers a path with . or .. or an empty segment with a redirect that
	// repeats it, without asking for a token. None of its own paths is such a one.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.draining.Load() { // so that the next request opens a connection to another process
			w.Header().Set("Connection", "close")
		}
		escaped := r.URL.EscapedPath()
		if clean := path.Clean(escaped); escaped == clean || clean != "/" && escaped == clean+"/" {
			mux.ServeHTTP(w, r)
			return
		}
		a.api(w, r)
	})
}

// api hands a request to the part of the private API that it is for.
func (a *App) api(w http.ResponseWriter, r *http.Request) {
	role, h := settings.Allocator, a.adminAPI.Load()
	if keeping(r.URL.Path) {
		role, h = settings.Replenisher, a.keeperAPI.Load()
	}
	if h != nil {
		(*h).ServeHTTP(w, r) // authenticates by itself
		return
	}
	a.guarded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p := privateapi.NewProblem(http.StatusServiceUnavailable, "unavailable", "still starting")
		p.Retry = 1
		if !a.has(role) {
			p = privateapi.NewProblem(http.StatusNotFound, "not_found", "this process does not run the "+string(role)+", which serves this path")
		}
		privateapi.Refuse(w, &a.log, &p)
	})).ServeHTTP(w, r)
}

// keeping tells whether a path is the stock-keeper's; all others are the allocator's.
func keeping(path string) bool {
	return strings.HasPrefix(path, "/v1/carriers/") && strings.HasSuffix(path, "/reconcile") ||
		strings.HasPrefix(path, "/v1/pools/") && strings.HasSuffix(path, "/release")
}

// guarded lets only who bears the API token through.
func (a *App) guarded(h http.Handler) http.Handler {
	token := privateapi.NewToken(a.at.APIToken)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !token.Accepts(r) {
			w.Header().Set("WWW-Authenticate", privateapi.Challenge)
			p := privateapi.Common.Problem(privateapi.ErrUnauthorized)
			privateapi.Refuse(w, &a.log, &p)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// readyz answers 200 when every part that this process needs works, else 503; the
// body names each part.
func (a *App) readyz(w http.ResponseWriter, r *http.Request) {
	status, body := a.ready(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a reader that has gone needs no answer
}

// Ready is the body of /readyz.
type Ready struct {
	Status     string      `json:"status"` // ready, not_ready, starting or draining
	Role       string      `json:"role"`
	Components []Component `json:"components"`
}

// Component is one part of a process as /readyz shows it.
type Component struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Needed tells whether the process is not ready without it.
	Needed bool   `json:"needed"`
	Error  string `json:"error,omitempty"`
}

func (a *App) ready(ctx context.Context) (int, Ready) {
	body := Ready{Status: "ready", Role: string(a.cfg.Role)}
	var all bool
	body.Components, all = a.parts.check(ctx)
	if !all {
		body.Status = "not_ready"
	}
	select {
	case <-a.started:
	default:
		body.Status = "starting"
	}
	if a.draining.Load() {
		body.Status = "draining"
	}
	if body.Status != "ready" {
		return http.StatusServiceUnavailable, body
	}
	return http.StatusOK, body
}

// check asks every part at once, each for a second at most.
func (p *parts) check(ctx context.Context) (components []Component, all bool) {
	list := p.list()
	components = make([]Component, len(list))
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	done := make(chan int, len(list))
	for i, part := range list {
		go func() {
			c := Component{Name: part.name, OK: true, Needed: part.needed}
			if err := part.check(ctx); err != nil {
				c.OK, c.Error = false, oneLine(err)
			}
			components[i] = c
			done <- i
		}()
	}
	all = true
	for range list {
		c := components[<-done]
		all = all && (c.OK || !c.Needed)
	}
	return components, all
}

func oneLine(err error) string { return strings.ReplaceAll(fmt.Sprint(err), "\n", "; ") }
