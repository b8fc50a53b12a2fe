package settings

import (
	"errors"
	"net/url"
	"strings"
)

func natsURL(s *Settings, value string) error {
	s.NATSURL = value
	if value == "" {
		return nil
	}
	for part := range strings.SplitSeq(value, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Host == "" {
			return errors.New("is not a URL such as nats://127.0.0.1:4222")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return errors.New("must start with nats://, tls://, ws:// or wss://")
		}
	}
	return nil
}

// Redact hides the user and password of each of the comma-separated URLs in s, and
// passwords among their parameters.
func Redact(s string) string {
	parts := strings.Split(s, ",")
	for i, p := range parts {
		p, scheme := strings.TrimSpace(p), ""
		if i > 0 && !strings.Contains(p, "://") {
			scheme = "redis://" // a further host:port takes the first URL's
		}
		u, err := url.Parse(scheme + p)
		if err != nil || u.Host == "" {
			parts[i] = hidden
			continue
		}
		if u.User != nil {
			u.User = url.User(hidden)
		}
		q := u.Query()
		for name := range q {
			if strings.Contains(name, "password") {
				q.Set(name, hidden)
				u.RawQuery = q.Encode()
			}
		}
		if u.User != nil || u.RawQuery != "" {
			shown := strings.NewReplacer(url.PathEscape(hidden), hidden, url.QueryEscape(hidden), hidden).Replace(u.String())
			parts[i] = strings.TrimPrefix(shown, scheme)
		}
	}
	return strings.Join(parts, ",")
}
