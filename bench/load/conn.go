package load

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// conn is one keep-alive connection with at most one request on its way.
type conn struct {
	fd   int
	busy bool
	call *call
	due  int64 // when the call was due, on the run's clock
	sent int64
	in   []byte
	n    int // bytes of in
}

// maxAnswer is more than any answer of the servers compared.
const maxAnswer = 8 << 10

// sockaddrs reads addresses that commas separate.
func sockaddrs(addrs string) ([]unix.Sockaddr, error) {
	var to []unix.Sockaddr
	for addr := range strings.SplitSeq(addrs, ",") {
		a, err := sockaddr(addr)
		if err != nil {
			return nil, err
		}
		to = append(to, a)
	}
	return to, nil
}

func sockaddr(addr string) (unix.Sockaddr, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().Is4() {
		return nil, fmt.Errorf("%q is not an IPv4 address with a port", addr)
	}
	return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}, nil
}

// dial connects c to the server and has the epoll tell when it can be read.
func (c *conn) dial(to unix.Sockaddr, epoll, index int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Connect(fd, to) // on the loopback it does not wait
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)})
	}
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("connect: %w", err)
	}
	c.fd, c.busy, c.n = fd, false, 0
	return nil
}

func (c *conn) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd) // nothing can be done about it
		c.fd = -1
	}
}

// write sends a request whole. A socket with no request on its way has room for it.
func (c *conn) write(request []byte) bool {
	for {
		n, err := unix.Write(c.fd, request)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n == len(request)
	}
}

// read takes in what has come. ok is false when the connection is no more.
func (c *conn) read() (ok bool) {
	if c.in == nil {
		c.in = make([]byte, maxAnswer)
	}
	n, err := unix.Read(c.fd, c.in[c.n:])
	switch {
	case n > 0:
		c.n += n
		return true
	case n == 0 && err == nil:
		return false
	}
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}

var lengthHeaders = [...][]byte{[]byte("\r\nContent-Length: "), []byte("\r\ncontent-length: ")}

// answer returns the answer when all of it is there. ok is false when it is not HTTP
// as the servers compared speak it, or too long.
func (c *conn) answer() (status int, body []byte, whole, ok bool) {
	in := c.in[:c.n]
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, nil, false, c.n < len(c.in)
	}
	if end < len("HTTP/1.1 200") {
		return 0, nil, false, false
	}
	status, err := strconv.Atoi(string(in[9:12]))
	if err != nil {
		return 0, nil, false, false
	}
	length := -1
	for _, h := range lengthHeaders {
		if at := bytes.Index(in[:end], h); at >= 0 {
			length = 0
			for _, d := range in[at+len(h) : end] {
				if d < '0' || d > '9' {
					break
				}
				length = 10*length + int(d-'0')
			}
		}
	}
	if length < 0 || end+4+length > len(c.in) {
		return 0, nil, false, false
	}
	if c.n < end+4+length {
		return 0, nil, false, true
	}
	return status, in[end+4 : end+4+length], true, c.n == end+4+length
}
