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
func NATS(t testing.TB) *NATSServer {
	t.Helper()
	s := &NATSServer{Dir: t.TempDir()}
	s.start(t, "127.0.0.1:0")
	t.Cleanup(func() { s.Stop(t) })
	return s
}

// Restart stops the server and starts it again with the same store and port.
func (s *NATSServer) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// Stop stops the server; a second call does nothing.
func (s *NATSServer) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), startTimeout)
	defer cancel()
	if err := s.srv.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// Start starts a stopped server again with the same store and port.
func (s *NATSServer) Start(t testing.TB) {
	t.Helper()
	s.start(t, strings.TrimPrefix(s.URL, "nats://"))
}

func (s *NATSServer) start(t testing.TB, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	srv, err := embedded.StartNATS(ctx, embedded.NATSConfig{Addr: addr, Dir: s.Dir, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	s.srv, s.URL = srv, srv.URL()
}
