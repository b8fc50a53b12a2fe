package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const askTimeout = time.Second

// ask sends one command on a connection of its own. A client library would keep
// dialling in the background and log each refusal, while asking a server that is
// still starting is all that this is for.
func ask(ctx context.Context, a redisAddr, password string, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", a.dial())
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }() // everything was read or has failed
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	r := bufio.NewReader(c)
	if password != "" {
		if _, err := call(c, r, "AUTH", password); err != nil {
			return "", err
		}
	}
	return call(c, r, command...)
}

// call writes a command and reads a simple, error or bulk reply.
// https://redis.io/docs/latest/develop/reference/protocol-spec/
func call(w io.Writer, r *bufio.Reader, command ...string) (string, error) {
	b := fmt.Appendf(nil, "*%d\r\n", len(command))
	for _, arg := range command {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := w.Write(b); err != nil {
		return "", err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case strings.HasPrefix(line, "+"):
		return line[1:], nil
	case strings.HasPrefix(line, "-"):
		return "", errors.New(line[1:])
	case strings.HasPrefix(line, "$"):
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 || n > 1<<20 {
			break
		}
		body := make([]byte, n)
		_, err = io.ReadFull(r, body)
		return string(body), err
	}
	return "", errors.New("the answer is not a Redis server's")
}

// serverInfo reads INFO server.
func serverInfo(ctx context.Context, a redisAddr, password string) (map[string]string, error) {
	text, err := ask(ctx, a, password, "INFO", "server")
	if err != nil {
		return nil, err
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[k] = v
		}
	}
	return info, nil
}
