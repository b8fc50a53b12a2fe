package embedded_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/embedded"
)

func startNATS(t *testing.T, cfg embedded.NATSConfig) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stopNATS(t, n) })
	return n
}

func stopNATS(t *testing.T, n *embedded.NATS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	require.NoError(t, n.Stop(ctx))
}

func connect(t *testing.T, url string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

func TestNATSKeepsMessagesAcrossRestartAndEncryptsThem(t *testing.T) {
	t.Parallel()
	const secret = "+12025550123"
	dir := t.TempDir()
	n := startNATS(t, embedded.NATSConfig{Addr: "127.0.0.1:0", Dir: dir})
	js := connect(t, n.URL())
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s.a", []byte(secret))
	require.NoError(t, err)
	stopNATS(t, n)

	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files++
		require.NotContains(t, string(data), secret[1:], "%s holds a message in clear", path)
		return err
	}))
	require.Greater(t, files, 2, "the store must have been searched")
	key, err := os.Stat(filepath.Join(dir, "jetstream.key"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), key.Mode().Perm())

	n = startNATS(t, embedded.NATSConfig{Addr: strings.TrimPrefix(n.URL(), "nats://"), Dir: dir})
	stream, err := connect(t, n.URL()).Stream(t.Context(), "S")
	require.NoError(t, err)
	msg, err := stream.GetLastMsgForSubject(t.Context(), "s.a")
	require.NoError(t, err)
	require.Equal(t, secret, string(msg.Data))
}

func TestNATSRefusesOtherThanLoopbackWithoutToken(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"} {
		_, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Addr: addr, Dir: t.TempDir()})
		require.ErrorContains(t, err, "needs a token", addr)
	}
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"} {
		_, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Addr: addr, Dir: t.TempDir()})
		require.ErrorContains(t, err, "embedded nats address", addr)
	}
}

func TestNATSWithTokenListensEverywhereAndRefusesClientsWithout(t *testing.T) {
	t.Parallel()
	n := startNATS(t, embedded.NATSConfig{Addr: "0.0.0.0:0", Dir: t.TempDir(), Token: "s3cret"})
	require.True(t, strings.HasPrefix(n.URL(), "nats://127.0.0.1:"), n.URL())
	_, err := nats.Connect(n.URL())
	require.ErrorIs(t, err, nats.ErrAuthorization)
	_, err = connect(t, n.URL(), nats.Token("s3cret")).AccountInfo(t.Context())
	require.NoError(t, err)
}

func TestNATSKeyProblemsAreClearErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startNATS(t, embedded.NATSConfig{Addr: "127.0.0.1:0", Dir: dir})
	_, err := connect(t, n.URL()).CreateStream(t.Context(), jetstream.StreamConfig{Name: "S"})
	require.NoError(t, err)
	stopNATS(t, n)
	path := filepath.Join(dir, "jetstream.key")
	start := func() error {
		_, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Addr: "127.0.0.1:0", Dir: dir})
		return err
	}
	require.NoError(t, os.Chmod(path, 0o640))
	require.ErrorContains(t, start(), "chmod 600")
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, []byte("short\n"), 0o600))
	require.ErrorContains(t, start(), "not 32 bytes")
	require.NoError(t, os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"), 0o600))
	require.ErrorContains(t, start(), "stream S is in the store but cannot be read")
	require.NoError(t, os.Remove(path))
	require.ErrorContains(t, start(), "is missing but the store")
}

func TestNATSPortInUseIsAnErrorAndLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	n := startNATS(t, embedded.NATSConfig{Addr: "localhost:0", Dir: t.TempDir()})
	var log bytes.Buffer
	_, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{
		Addr: strings.TrimPrefix(n.URL(), "nats://"), Dir: t.TempDir(), Logger: zerolog.New(&log),
	})
	require.ErrorContains(t, err, "address already in use")
	require.Contains(t, log.String(), "address already in use")
}
