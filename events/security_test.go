package events_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/vn"
)

// works fails the test unless the bus can create the streams and publish.
func works(t *testing.T, cfg events.Config) *events.Bus {
	t.Helper()
	b, err := events.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	require.NoError(t, b.EnsureStreams(t.Context()))
	require.NoError(t, b.Released(t.Context(), events.VNReleased{OrderID: "o-1", Reason: "completed"}))
	return b
}

// fault fails the test unless Connect blames the field at once, in words of one line.
func fault(t *testing.T, cfg events.Config, field, words string) {
	t.Helper()
	cfg.Timeout = within
	start := time.Now()
	_, err := events.Connect(t.Context(), cfg)
	var wrong *events.ConfigError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, field, wrong.Field, err)
	require.ErrorContains(t, err, words)
	require.NotContains(t, err.Error(), "\n")
	require.NotErrorIs(t, err, vn.ErrUnavailable, "waiting does not mend it")
	require.Less(t, time.Since(start), within/2)
}

const jetStream = "jetstream { store_dir: /tmp/overridden }\n"

func TestTLSWithClientCertificates(t *testing.T) {
	t.Parallel()
	ca, other := testkit.NewAuthority(t), testkit.NewAuthority(t)
	cert, key := ca.Issue(t, "server")
	config := func(cert, key, ca string) string {
		return fmt.Sprintf("%stls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", jetStream, cert, key, ca)
	}
	srv := testkit.NATSWith(t, config(cert, key, ca.File))
	mine, myKey := ca.Issue(t, "client")
	good := events.Config{URL: "tls://" + srv.Addr, CAFile: ca.File, CertFile: mine, KeyFile: myKey}
	b := works(t, good)
	good.URL = "nats://" + srv.Addr
	works(t, good) // the server says that it wants TLS

	stranger, strangerKey := other.Issue(t, "stranger")
	change := func(f func(*events.Config)) events.Config {
		c := good
		f(&c)
		return c
	}
	fault(t, change(func(c *events.Config) { c.CAFile = "" }), "CAFile", "signed by nobody trusted")
	fault(t, change(func(c *events.Config) { c.CAFile = other.File }), "CAFile", "signed by nobody trusted")
	fault(t, change(func(c *events.Config) { c.CAFile = myKey }), "CAFile", "holds no certificate")
	fault(t, change(func(c *events.Config) { c.CAFile = "/nowhere" }), "CAFile", "no such file")
	fault(t, change(func(c *events.Config) { c.CertFile, c.KeyFile = stranger, strangerKey }), "CertFile", "does not accept this client's certificate")
	fault(t, change(func(c *events.Config) { c.CertFile, c.KeyFile = "", "" }), "CertFile", "does not accept this client's certificate")
	fault(t, change(func(c *events.Config) { c.KeyFile = "" }), "KeyFile", "belong together")
	fault(t, change(func(c *events.Config) { c.KeyFile = strangerKey }), "CertFile", "private key does not match")

	// Everything is signed anew by another authority: the files are replaced, and the
	// connection comes back without a restart.
	cert2, key2 := other.Issue(t, "server")
	replace(t, ca.File, other.File)
	replace(t, mine, stranger)
	replace(t, myKey, strangerKey)
	srv.RestartWith(t, config(cert2, key2, other.File))
	require.Eventually(t, func() bool { return b.Ping(t.Context()) == nil }, within, tick)
}

func replace(t *testing.T, path, with string) {
	t.Helper()
	data, err := os.ReadFile(with)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

// operator is a NATS operator with one account that has JetStream.
type operator struct {
	keys, account, system nkeys.KeyPair
	claims                *jwt.AccountClaims
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{}
	var err error
	o.keys, err = nkeys.CreateOperator()
	require.NoError(t, err)
	o.account, err = nkeys.CreateAccount()
	require.NoError(t, err)
	o.system, err = nkeys.CreateAccount()
	require.NoError(t, err)
	o.claims = jwt.NewAccountClaims(public(t, o.account))
	o.claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit, MaxAckPending: jwt.NoLimit,
	}
	return o
}

func public(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	p, err := k.PublicKey()
	require.NoError(t, err)
	return p
}

// config is that of a server that trusts the operator, with the account as it is now.
func (o *operator) config(t *testing.T) string {
	t.Helper()
	op := jwt.NewOperatorClaims(public(t, o.keys))
	opJWT, err := op.Encode(o.keys)
	require.NoError(t, err)
	account, err := o.claims.Encode(o.keys)
	require.NoError(t, err)
	system, err := jwt.NewAccountClaims(public(t, o.system)).Encode(o.keys)
	require.NoError(t, err)
	return fmt.Sprintf("%soperator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }\n",
		jetStream, opJWT, public(t, o.system), public(t, o.account), account, public(t, o.system), system)
}

// creds returns a credentials file of a new user and the user's public key.
func (o *operator) creds(t *testing.T) (file []byte, user string) {
	t.Helper()
	k, err := nkeys.CreateUser()
	require.NoError(t, err)
	token, err := jwt.NewUserClaims(public(t, k)).Encode(o.account)
	require.NoError(t, err)
	seed, err := k.Seed()
	require.NoError(t, err)
	file, err = jwt.FormatUserConfig(token, seed)
	require.NoError(t, err)
	return file, public(t, k)
}

func TestCredentialsFileInOperatorMode(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	srv := testkit.NATSWith(t, o.config(t))
	path := filepath.Join(t.TempDir(), "callmask.creds")
	creds, user := o.creds(t)
	require.NoError(t, os.WriteFile(path, creds, 0o600))
	cfg := events.Config{URL: "nats://" + srv.Addr, CredsFile: path}
	b := works(t, cfg)

	foreign, _ := newOperator(t).creds(t)
	wrong := filepath.Join(t.TempDir(), "wrong.creds")
	require.NoError(t, os.WriteFile(wrong, foreign, 0o600))
	fault(t, events.Config{URL: cfg.URL, CredsFile: wrong}, "CredsFile", "refused the credentials")
	require.NoError(t, os.WriteFile(wrong, []byte("hello"), 0o600))
	fault(t, events.Config{URL: cfg.URL, CredsFile: wrong}, "CredsFile", "neither a user's JWT nor an NKey seed")
	fault(t, events.Config{URL: cfg.URL, CredsFile: "/nowhere"}, "CredsFile", "no such file")
	fault(t, events.Config{URL: cfg.URL}, "URL", "refused the credentials")

	// The user is revoked and another one takes its place in the file.
	creds, _ = o.creds(t)
	require.NoError(t, os.WriteFile(path, creds, 0o600))
	o.claims.Revoke(user)
	srv.RestartWith(t, o.config(t))
	require.Eventually(t, func() bool { return b.Ping(t.Context()) == nil }, within, tick)
}

func TestAnNKeySeedAsCredentials(t *testing.T) {
	t.Parallel()
	k, err := nkeys.CreateUser()
	require.NoError(t, err)
	seed, err := k.Seed()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "callmask.nk")
	require.NoError(t, os.WriteFile(path, seed, 0o600))
	srv := testkit.NATSWith(t, jetStream+"authorization { users: [ { nkey: "+public(t, k)+" } ] }")
	works(t, events.Config{URL: "nats://" + srv.Addr, CredsFile: path})
}

func TestUserTokenAndPasswordThatAreWrongAreNamed(t *testing.T) {
	t.Parallel()
	byToken := testkit.NATSWith(t, jetStream+"authorization { token: s3cret }")
	works(t, events.Config{URL: "nats://" + byToken.Addr, Token: "s3cret"})
	fault(t, events.Config{URL: "nats://" + byToken.Addr, Token: "wrong"}, "Token", "refused the credentials")
	byPassword := testkit.NATSWith(t, jetStream+"authorization { user: callmask, password: s3cret }")
	works(t, events.Config{URL: "nats://callmask:s3cret@" + byPassword.Addr})
	fault(t, events.Config{URL: "nats://callmask:wrong@" + byPassword.Addr}, "URL", "refused the credentials")
}

// A start that had to wait for NATS tries again with the same registry.
func TestAConnectThatFailedMayBeRepeated(t *testing.T) {
	t.Parallel()
	srv := testkit.NATS(t)
	srv.Stop(t)
	cfg := events.Config{URL: srv.URL, Registerer: prometheus.NewRegistry(), Timeout: 200 * time.Millisecond}
	_, err := events.Connect(t.Context(), cfg)
	require.ErrorIs(t, err, vn.ErrUnavailable)
	srv.Start(t)
	cfg.Timeout = within
	b, err := events.Connect(t.Context(), cfg)
	require.NoError(t, err)
	b.Close()
}

func TestACleanEndIsNoLostConnection(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // read only after Close, when nothing writes any more
	srv := testkit.NATS(t)
	b, err := events.Connect(t.Context(), events.Config{URL: srv.URL, Logger: zerolog.New(&log)})
	require.NoError(t, err)
	b.Close()
	require.Contains(t, log.String(), "nats connected")
	require.NotContains(t, log.String(), "lost")
}
