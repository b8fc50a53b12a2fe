package app

import (
	"errors"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
)

// NATSConfig is what the settings say about NATS, for a command that starts nothing: where
// none is named, the server that `all` runs on this machine.
func NATSConfig(s *settings.Settings) events.Config {
	address, token := s.NATSAddress()
	return events.Config{
		URL: address, Inbox: inboxOf("operator"), Token: token, CredsFile: s.NATSCreds, CAFile: s.NATSCA, CertFile: s.NATSCert, KeyFile: s.NATSKey,
		OrdersStream: s.OrdersStream, OrdersPrefix: s.OrdersPrefix, Replicas: s.NATSReplicas,
	}
}

// inboxOf is what answers to a user of deploy/nats/permissions.conf begin with: one that
// may read them all would read real numbers.
func inboxOf(user string) string { return "_INBOX_" + user }

// NATSError puts the variable of the setting that is at fault before an error of events.
func NATSError(err error) error {
	wrong := &events.ConfigError{}
	if !errors.As(err, &wrong) {
		return settings.Named("nats_url", err)
	}
	switch wrong.Field {
	case "Token":
		return settings.Named("nats_token", err)
	case "CredsFile":
		return settings.Named("nats_creds", err)
	case "CAFile":
		return settings.Named("nats_ca", err)
	case "CertFile":
		return settings.Named("nats_cert", err)
	case "KeyFile":
		return settings.Named("nats_key", err)
	}
	return settings.Named("nats_url", err)
}
