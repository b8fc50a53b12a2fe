package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

// NATSConfig says where the embedded JetStream server listens and keeps its files.
type NATSConfig struct {
	// Addr is the TCP address to listen at, host:port; port 0 is any free port. A
	// loopback host needs no credentials, any other is refused without a Token.
	Addr string
	// Dir is the data directory. The server writes below Dir/jetstream, and its
	// encryption key to Dir/jetstream.key (mode 0600), created when there is none.
	Dir string
	// Token is what clients must show; empty: none, on loopback only.
	Token  string
	Logger zerolog.Logger
}

// NATS is a JetStream server inside this process, its files encrypted with
// ChaCha20-Poly1305 and every write synced to disk before it is acknowledged.
type NATS struct {
	srv *server.Server
	url string
}

// natsStart bounds the start of a server whose caller set no deadline: recovering
// large streams takes a while.
const natsStart = time.Minute

// StartNATS starts the server and returns when it accepts clients, at the latest
// when ctx ends. Errors name the setting that is wrong.
func StartNATS(ctx context.Context, cfg NATSConfig) (*NATS, error) {
	host, port, err := natsAddr(cfg.Addr, cfg.Token)
	if err != nil {
		return nil, err
	}
	store := filepath.Join(cfg.Dir, "jetstream")
	key, err := natsKey(filepath.Join(cfg.Dir, "jetstream.key"), store)
	if err != nil {
		return nil, err
	}
	onDisk, err := storedStreams(store)
	if err != nil {
		return nil, err
	}
	srv, err := server.NewServer(&server.Options{
		ServerName:             "callmask",
		Host:                   host,
		Port:                   port,
		Authorization:          cfg.Token,
		NoSigs:                 true, // signals are the program's
		DisableJetStreamBanner: true,
		JetStream:              true,
		StoreDir:               cfg.Dir, // the server adds /jetstream
		SyncAlways:             true,
		JetStreamCipher:        server.ChaCha,
		JetStreamKey:           key,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	log := &natsLogger{log: cfg.Logger}
	srv.SetLoggerV2(log, false, false, false) // never debug or trace: those print messages
	n := &NATS{srv: srv}
	srv.Start()
	err = n.await(ctx, log)
	if err == nil {
		err = n.checkRecovered(onDisk)
	}
	if err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("embedded nats at %s: %w", cfg.Addr, err)
	}
	bound, ok := srv.Addr().(*net.TCPAddr)
	if !ok {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("embedded nats at %s: it has no TCP address", cfg.Addr)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // listening everywhere: this process reaches it here
	}
	n.url = "nats://" + net.JoinHostPort(host, strconv.Itoa(bound.Port))
	return n, nil
}

func (n *NATS) await(ctx context.Context, log *natsLogger) error {
	ctx, cancel := context.WithTimeout(ctx, natsStart)
	defer cancel()
	for !n.srv.ReadyForConnections(50 * time.Millisecond) {
		if msg := log.fatal.Load(); msg != nil {
			return errors.New(*msg)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("not ready in time: %w", err)
		}
	}
	if !n.srv.JetStreamEnabled() {
		return errors.New("JetStream did not start; see the log")
	}
	return nil
}

// checkRecovered compares the streams on disk with those the server recovered. The
// server leaves out one that it cannot decrypt or read, with no more than a warning;
// without its ledger callmask would take itself for a new installation.
func (n *NATS) checkRecovered(onDisk []string) error {
	info, err := n.srv.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return fmt.Errorf("listing the streams: %w", err)
	}
	recovered := make(map[string]bool)
	for _, account := range info.AccountDetails {
		for _, s := range account.Streams {
			recovered[s.Name] = true
		}
	}
	for _, name := range onDisk {
		if !recovered[name] {
			return fmt.Errorf("stream %s is in the store but cannot be read: jetstream.key is not the key it was written with, or the files are damaged; restore them from a backup", name)
		}
	}
	return nil
}

// storedStreams returns the names of the streams that the store holds.
func storedStreams(store string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(store, "$G", "streams"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("embedded nats store: %w", err)
	}
	var names []string
	for _, e := range entries {
		// A folder without metadata is one whose creation or deletion a crash cut short.
		if _, err := os.Stat(filepath.Join(store, "$G", "streams", e.Name(), server.JetStreamMetaFile)); err == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// URL returns the address for clients of this process, without the token.
func (n *NATS) URL() string { return n.url }

// Stop disconnects the clients, closes the store and waits until the server's
// goroutines have ended or ctx ends. It may be called again.
func (n *NATS) Stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.srv.Shutdown()
		n.srv.WaitForShutdown()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("embedded nats: still stopping: %w", ctx.Err())
	}
}

// natsAddr splits the address and refuses to listen beyond loopback without a token.
func natsAddr(addr, token string) (host string, port int, err error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("embedded nats address: %w", err)
	}
	port, err = strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("embedded nats address: port %q is not 0 to 65535", portText)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	ip := net.ParseIP(host)
	if host == "localhost" || ip != nil && ip.IsLoopback() {
		return host, port, nil
	}
	if token == "" {
		return "", 0, fmt.Errorf("embedded nats address: %s is reachable from other machines and needs a token; use 127.0.0.1, or an external NATS", addr)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

// natsLogger writes the server's log to zerolog. The server formats its own
// messages; at these levels they hold names and addresses, never a message's data.
type natsLogger struct {
	log   zerolog.Logger
	fatal atomic.Pointer[string]
}

// Noticef goes to debug: it is the server's start-up text.
func (l *natsLogger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }

// Warnf logs a warning.
func (l *natsLogger) Warnf(format string, v ...any) { l.log.Warn().Msgf(format, v...) }

// Errorf logs an error.
func (l *natsLogger) Errorf(format string, v ...any) { l.log.Error().Msgf(format, v...) }

// Debugf logs nothing.
func (l *natsLogger) Debugf(string, ...any) {}

// Tracef logs nothing: traces hold what clients sent.
func (l *natsLogger) Tracef(string, ...any) {}

// Fatalf does not end the process: what the server cannot start without is
// returned as StartNATS's error.
func (l *natsLogger) Fatalf(format string, v ...any) {
	msg := fmt.Sprintf(format, v...)
	l.fatal.CompareAndSwap(nil, &msg)
	l.log.Error().Msg(msg)
}
