package testkit

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// ConfiguredNATS is a NATS server inside the test process that runs a configuration file,
// as an operator's would: with users, permissions and certificates.
type ConfiguredNATS struct {
	Addr string // 127.0.0.1:port

	dir string
	srv *server.Server
}

// NATSWith starts a server with a configuration file's text and ends it with the test.
// Where it listens and keeps its files is changed to a free port of the loopback and to
// a folder of the test.
func NATSWith(tb testing.TB, config string) *ConfiguredNATS {
	tb.Helper()
	s := &ConfiguredNATS{Addr: "127.0.0.1:-1", dir: tb.TempDir()}
	s.start(tb, config, server.RANDOM_PORT)
	tb.Cleanup(s.stop)
	return s
}

// RestartWith ends the server and starts it with another configuration on the same port
// and files.
func (s *ConfiguredNATS) RestartWith(tb testing.TB, config string) {
	tb.Helper()
	bound, ok := s.srv.Addr().(*net.TCPAddr)
	if !ok {
		tb.Fatal("the server has no TCP address")
	}
	s.stop()
	s.start(tb, config, bound.Port)
}

func (s *ConfiguredNATS) start(tb testing.TB, config string, port int) {
	tb.Helper()
	path := filepath.Join(s.dir, "nats.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	opts.Host, opts.Port, opts.HTTPHost, opts.HTTPPort = "127.0.0.1", port, "", 0
	opts.StoreDir, opts.NoSigs, opts.NoLog = s.dir, true, true
	if s.srv, err = server.NewServer(opts); err != nil {
		tb.Fatal(err)
	}
	s.srv.SetLoggerV2(&failures{tb}, false, false, false)
	s.srv.Start()
	if !s.srv.ReadyForConnections(startTimeout) {
		tb.Fatal("the NATS server did not start")
	}
	s.Addr = s.srv.Addr().String()
}

// failures shows why a server does not start.
type failures struct{ tb testing.TB }

func (*failures) Noticef(string, ...any)      {}
func (f *failures) Warnf(s string, v ...any)  { f.tb.Logf(s, v...) }
func (f *failures) Errorf(s string, v ...any) { f.tb.Logf(s, v...) }
func (f *failures) Fatalf(s string, v ...any) { f.tb.Logf(s, v...) }
func (*failures) Debugf(string, ...any)       {}
func (*failures) Tracef(string, ...any)       {}

func (s *ConfiguredNATS) stop() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}
