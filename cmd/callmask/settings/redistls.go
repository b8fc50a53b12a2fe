package settings

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// RedisTLS says how the servers of a rediss:// address are known, and we to them. The
// zero value trusts the system's certificate authorities and shows no certificate.
type RedisTLS struct {
	CAFile     string // PEM certificates of the authorities to trust instead
	CertFile   string // PEM chain of our own certificate
	KeyFile    string // its private key
	ServerName string // the name in the servers' certificates, where it is not the address
}

func newTLSConfig() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }

// check names the first setting that makes no sense beside the others.
func (t *RedisTLS) check(encrypted bool) error {
	for _, s := range []struct{ key, value string }{
		{"redis_ca_file", t.CAFile}, {"redis_cert_file", t.CertFile}, {"redis_key_file", t.KeyFile}, {"redis_server_name", t.ServerName},
	} {
		if s.value != "" && !encrypted {
			return Named(s.key, errors.New("is for addresses that begin with rediss://, and CALLMASK_REDIS_URL has none"))
		}
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		return Named("redis_key_file", errors.New("is not set; the certificate of CALLMASK_REDIS_CERT_FILE needs its private key"))
	case t.KeyFile != "" && t.CertFile == "":
		return Named("redis_cert_file", errors.New("is not set; the private key of CALLMASK_REDIS_KEY_FILE needs its certificate"))
	}
	return nil
}

// config completes the TLS configuration of a parsed URL; it is nil for redis://.
//
// Each server is known by the address that it is reached by, the nodes of a Cluster and
// what Sentinels point to included, unless ServerName says otherwise.
func (t *RedisTLS) config(r *Redis) (*tls.Config, error) {
	c := r.Options.TLSConfig
	if err := t.check(c != nil); err != nil || c == nil {
		return nil, err
	}
	c.ServerName = t.ServerName
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, Named("redis_ca_file", unread(t.CAFile, err))
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, Named("redis_ca_file", fmt.Errorf("%s holds no certificate in PEM form", t.CAFile))
		}
	}
	if t.CertFile == "" {
		return c, nil
	}
	if _, err := t.own(); err != nil {
		return nil, Named("redis_cert_file", err)
	}
	// Read anew for every connection: a renewed certificate needs no restart.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.own() }
	return c, nil
}

func (t *RedisTLS) own() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	var path *os.PathError
	switch {
	case errors.As(err, &path):
		return nil, unread(path.Path, err)
	case err != nil: // it says what is wrong, never what the files hold
		return nil, fmt.Errorf("%s and %s (CALLMASK_REDIS_KEY_FILE) are not a certificate and its key: %w", t.CertFile, t.KeyFile, err)
	}
	return &c, nil
}

func unread(file string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("cannot read %s: %w", file, err)
}
