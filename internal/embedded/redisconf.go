package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// redisAddr is where the child listens and where this process reaches it.
type redisAddr struct {
	host string // as in the configuration
	port int
}

// dial is the address for clients of this machine.
func (a redisAddr) dial() string {
	host := a.host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(a.port))
}

func parseRedisAddr(addr, password string) (redisAddr, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return redisAddr{}, fmt.Errorf("embedded redis address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return redisAddr{}, fmt.Errorf("embedded redis address: port %q is not 0 to 65535", portText)
	}
	ip := net.ParseIP(host)
	if password == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return redisAddr{}, fmt.Errorf("embedded redis address: %s is reachable from other machines and needs a password; use 127.0.0.1, or an external Redis", addr)
	}
	if strings.ContainsAny(password, " \t\r\n") {
		return redisAddr{}, errors.New("embedded redis password: must hold no spaces or line breaks")
	}
	return redisAddr{host: host, port: port}, nil
}

// free proves that the address is free, and finds a port where 0 is asked for.
func (a redisAddr) free(ctx context.Context) (redisAddr, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(a.host, strconv.Itoa(a.port)))
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return a, fmt.Errorf("embedded redis address: %s is in use by another program", net.JoinHostPort(a.host, strconv.Itoa(a.port)))
		}
		return a, fmt.Errorf("embedded redis address: %w", err)
	}
	bound, ok := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		return a, fmt.Errorf("embedded redis address: %w", err)
	}
	if ok {
		a.port = bound.Port
	}
	return a, nil
}

// redisConf is the child's whole configuration. What callmask's promises rest on:
// an AOF (appendonly), no eviction (a lost key is a lost binding), no slow log (it
// would keep arguments of commands), bindings in one listpack up to an order id of 64
// characters (hash-max-listpack-value).
func redisConf(dir string, a redisAddr, password string) string {
	var b strings.Builder
	set := func(name, value string) { fmt.Fprintf(&b, "%s %s\n", name, value) }
	b.WriteString("# Written by callmask at each start; changes here are lost.\n")
	if a.host != "" {
		host := a.host
		if host == "localhost" {
			host = "127.0.0.1"
		}
		set("bind", quote(host))
	} else {
		set("bind", "*")
	}
	set("port", strconv.Itoa(a.port))
	set("protected-mode", "yes")
	if password != "" {
		set("requirepass", quote(password))
	}
	set("dir", quote(dir))
	set("pidfile", quote(filepath.Join(dir, redisPidFile)))
	set("daemonize", "no")
	set("logfile", `""`)
	set("loglevel", "notice")
	set("always-show-logo", "no")
	set("crash-log-enabled", "no") // it prints commands
	set("proc-title-template", quote("{title} {config-file} {listen-addr}"))
	set("appendonly", "yes")
	set("appendfsync", "everysec")
	set("save", `""`)
	set("maxmemory-policy", "noeviction")
	set("slowlog-log-slower-than", "-1")
	set("latency-tracking", "no") // a histogram entry for every command
	set("hash-max-listpack-value", "128")
	set("shutdown-timeout", "0")
	return b.String()
}

// quote writes a value the way redis.conf reads it: C escapes in double quotes.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// writeConf replaces the configuration file in one step: an orphan of an earlier
// start is found through the file, so it must never be half written.
func writeConf(path, text string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return fmt.Errorf("embedded redis: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("embedded redis: %w", err)
	}
	return nil
}

// confValue reads one plain setting back from a configuration file of ours.
func confValue(text, name string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}
