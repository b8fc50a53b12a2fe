package testkit

import (
	"context"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/callmask/callmask/internal/embedded"
)

// NATSServer is a JetStream server inside the test process, the same that
// `callmask all` embeds: encrypted, synced, on a free port of the loopback.
type NATSServer struct {
	URL string // nats://127.0.0.1:port
	Dir string // its data directory

	srv *embedded.NATS
}

// NATS starts a JetStream server and stops it when the test has ended.
func NATS(tb testing.TB) *NATSServer {
	tb.Helper()
	s := &NATSServer{Dir: tb.TempDir()}
	s.start(tb, "127.0.0.1:0")
	tb.Cleanup(func() { s.Stop(tb) })
	return s
}

// Restart stops the server and starts it again with the same store and port.
func (s *NATSServer) Restart(tb testing.TB) {
	tb.Helper()
	s.Stop(tb)
	s.Start(tb)
}

// Stop stops the server; a second call does nothing.
func (s *NATSServer) Stop(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), startTimeout)
	defer cancel()
	if err := s.srv.Stop(ctx); err != nil {
		tb.Error(err)
	}
}

// Start starts a stopped server again with the same store and port.
func (s *NATSServer) Start(tb testing.TB) {
	tb.Helper()
	s.start(tb, strings.TrimPrefix(s.URL, "nats://"))
}

func (s *NATSServer) start(tb testing.TB, addr string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), startTimeout)
	defer cancel()
	srv, err := embedded.StartNATS(ctx, embedded.NATSConfig{Addr: addr, Dir: s.Dir, Logger: zerolog.Nop()})
	if err != nil {
		tb.Fatal(err)
	}
	s.srv, s.URL = srv, srv.URL()
}
