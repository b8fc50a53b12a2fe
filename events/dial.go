package events

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/callmask/callmask/vn"
)

// ConfigError says that a field of a Config is wrong, or is not what the server accepts:
// waiting does not mend it.
type ConfigError struct {
	Field string // of Config, such as CredsFile
	Err   error
}

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// How the connection is kept. A server that stands still is given up after three pings
// without an answer, so after 3 s; nats.go's defaults would take six minutes.
const (
	pingEvery     = time.Second
	pingsMissing  = 2
	reconnectWait = 100 * time.Millisecond
)

// checkFiles reads every file once, so that a wrong path stops the start.
func (c *Config) checkFiles() error {
	if c.CredsFile != "" {
		if _, err := os.ReadFile(c.CredsFile); err != nil {
			return &ConfigError{"CredsFile", fmt.Errorf("nats credentials file: %w", err)}
		}
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s holds no certificate in PEM form", c.CAFile)
		}
		if err != nil {
			return &ConfigError{"CAFile", fmt.Errorf("nats certificate authority: %w", err)}
		}
	}
	if c.CertFile == "" && c.KeyFile == "" {
		return nil
	}
	for field, path := range map[string]string{"CertFile": c.CertFile, "KeyFile": c.KeyFile} {
		if path == "" {
			return &ConfigError{field, errors.New("nats client certificate: certificate and key belong together; one of the two is not set")}
		}
	}
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return &ConfigError{"CertFile", fmt.Errorf("nats client certificate: %w", err)}
	}
	return nil
}

// security returns the options that the files and the token ask for. nats.go calls back
// for what is in the files at each connection.
func (c *Config) security() ([]nats.Option, error) {
	var opts []nats.Option
	if c.Token != "" {
		opts = append(opts, nats.Token(c.Token))
	}
	if c.CredsFile != "" {
		creds, err := os.ReadFile(c.CredsFile)
		if err != nil {
			return nil, &ConfigError{"CredsFile", fmt.Errorf("nats credentials file: %w", err)}
		}
		option := nats.UserCredentials(c.CredsFile)
		if !bytes.Contains(creds, []byte("NATS USER JWT")) { // a seed alone
			if option, err = nats.NkeyOptionFromSeed(c.CredsFile); err != nil {
				return nil, &ConfigError{"CredsFile", errors.New("nats credentials file: it holds neither a user's JWT nor an NKey seed")}
			}
		}
		opts = append(opts, option)
	}
	if c.CAFile != "" {
		opts = append(opts, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		opts = append(opts, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	return opts, nil
}

// attempts remembers the last failure to connect: it is logged when it is another one,
// not at each of ten attempts a second.
type attempts struct {
	mu   sync.Mutex
	last string
}

func (a *attempts) news(err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	changed := text != a.last
	a.last = text
	return changed && err != nil
}

func (b *Bus) dial(ctx context.Context) error {
	connected := make(chan struct{}, 1)
	failed := make(chan error, 1)
	tried := &attempts{}
	arrived := func(how string) nats.ConnHandler {
		return func(nc *nats.Conn) {
			_ = tried.news(nil)
			b.metrics.connected.Set(1)
			b.log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg(how)
			offer(connected, struct{}{})
		}
	}
	opts := []nats.Option{
		nats.Name(b.cfg.Name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.Timeout(min(b.cfg.Timeout, 2*time.Second)),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(pingsMissing),
		// Nothing is buffered while disconnected: a record that went out long after
		// its caller gave up could overwrite a newer one.
		nats.ReconnectBufSize(-1),
		nats.ConnectHandler(arrived("nats connected")),
		nats.ReconnectHandler(arrived("nats connected again")),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.metrics.connected.Set(0)
			b.dropRequests()
			if b.closing.Load() {
				return
			}
			b.log.Warn().Err(err).Msg("nats connection lost; reconnecting")
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if tried.news(err) {
				b.log.Warn().Err(b.refused(err)).Msg("nats cannot be reached; trying again")
			}
			offer(failed, err)
		}),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			if !nc.IsConnected() && !tried.news(err) {
				return
			}
			b.log.Warn().Str("error", masked(err.Error())).Msg("nats reported an error")
		}),
		// Without it the connection is given up for good when a server refuses the
		// credentials twice, as it may while they are being rotated.
		nats.IgnoreAuthErrorAbort(),
	}
	if b.cfg.Inbox != "" {
		opts = append(opts, nats.CustomInboxPrefix(b.cfg.Inbox))
	}
	security, err := b.cfg.security()
	if err != nil {
		return err
	}
	nc, err := nats.Connect(b.cfg.URL, append(opts, security...)...)
	if err != nil {
		return &ConfigError{"URL", fmt.Errorf("nats url: %w", err)}
	}
	b.nc = nc
	if nc.IsConnected() || b.cfg.Lazy {
		return nil
	}
	if err := b.arrive(ctx, connected, failed); err != nil {
		b.hangUp()
		return err
	}
	return nil
}

// hangUp closes the connection and waits until nothing of it is called any more.
func (b *Bus) hangUp() {
	b.closing.Store(true)
	b.nc.Close()
	<-b.closed
}

// arrive waits for the first connection.
func (b *Bus) arrive(ctx context.Context, connected <-chan struct{}, failed <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	tick := time.NewTicker(2 * reconnectWait)
	defer tick.Stop()
	var last error
	for hungUp := 0; ; {
		select {
		case <-connected:
			return nil
		case last = <-failed:
			if wrong := (*ConfigError)(nil); errors.As(b.refused(last), &wrong) {
				return wrong
			}
		case <-tick.C:
			// After the first one nats.go keeps what goes wrong in a handshake to itself.
			if err := b.nc.LastError(); errors.Is(err, nats.ErrTLS) {
				if hungUp++; hungUp == 5 { // a server that is being ended does it once or twice
					return &ConfigError{"CertFile", fmt.Errorf("the server does not accept this client's certificate: %w", err)}
				}
			}
		case <-ctx.Done():
			if last == nil {
				last = ctx.Err()
			}
			return fmt.Errorf("connecting to nats: %w: %w", vn.ErrUnavailable, last)
		}
	}
}

// refused names the field of the Config by which a connection failed, if it is one's
// fault.
func (b *Bus) refused(err error) error {
	var remote *net.OpError
	var authority x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		return &ConfigError{b.cfg.credentials(), fmt.Errorf("the server refused the credentials: %w", err)}
	case errors.Is(err, nats.ErrSecureConnWanted):
		return &ConfigError{"URL", fmt.Errorf("the server does not speak TLS: %w", err)}
	case errors.As(err, &authority):
		return &ConfigError{"CAFile", fmt.Errorf("the server's certificate is signed by nobody trusted: %w", err)}
	case errors.As(err, &verification):
		return &ConfigError{"CAFile", fmt.Errorf("the server's certificate is not accepted: %w", err)}
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert of TLS
		return &ConfigError{"CertFile", fmt.Errorf("the server does not accept this client's certificate: %w", err)}
	}
	return err
}

// credentials names the field that the server knows this client by.
func (c *Config) credentials() string {
	switch {
	case c.CredsFile != "":
		return "CredsFile"
	case c.Token != "":
		return "Token"
	}
	first, _, _ := strings.Cut(c.URL, ",")
	if u, err := url.Parse(first); err == nil && u.User == nil && c.CertFile != "" {
		return "CertFile"
	}
	return "URL"
}

func offer[T any](ch chan T, v T) {
	select {
	case ch <- v:
	default:
	}
}
