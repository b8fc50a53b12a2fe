package router

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

const (
	// A connection that is refused in the middle of its request is read on a
	// little while, for a close with unread bytes resets it and the answer is lost.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20

	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
)

// connSet knows every open connection: to count them, to bound those of one
// address and to cut them when draining took too long.
type connSet struct {
	perIP    int // 0: no bound
	timeouts *timeouts
	log      zerolog.Logger
	open     atomic.Int64
	gone     sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{}
	ips   map[netip.Addr]int
}

func newConnSet(perIP int, t *timeouts, log zerolog.Logger) *connSet {
	return &connSet{perIP: perIP, timeouts: t, log: log, conns: map[*conn]struct{}{}, ips: map[netip.Addr]int{}}
}

// add returns nil when the address has its share of connections already.
func (s *connSet) add(nc net.Conn) *conn {
	c := &conn{Conn: nc, set: s}
	c.step.begin(reading, s.timeouts.ticks.Load())
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		c.ip = a.AddrPort().Addr().Unmap()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perIP > 0 && c.ip.IsValid() {
		if s.ips[c.ip] >= s.perIP {
			return nil
		}
		s.ips[c.ip]++
	}
	s.conns[c] = struct{}{}
	s.open.Add(1)
	s.gone.Add(1)
	return c
}

func (s *connSet) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.perIP > 0 && c.ip.IsValid() {
		if s.ips[c.ip]--; s.ips[c.ip] == 0 {
			delete(s.ips, c.ip)
		}
	}
	s.open.Add(-1)
	s.gone.Done()
}

// cut closes every connection and returns how many there were.
func (s *connSet) cut() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if err := c.Conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Warn().Msg("router: a connection did not close")
		}
	}
	return len(s.conns)
}

// each calls do with every connection.
func (s *connSet) each(do func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		do(c)
	}
}

// wait returns when every connection is closed.
func (s *connSet) wait() { s.gone.Wait() }

func (s *connSet) listen(ln net.Listener) *listener {
	return &listener{Listener: ln, set: s, closed: make(chan struct{})}
}

// listener outlives what an Accept can fail with for a while (fasthttp ends at the
// first error, such as too many open files).
type listener struct {
	net.Listener

	set    *connSet
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	pause := firstPause
	for {
		nc, err := l.Listener.Accept()
		switch {
		case err == nil:
			if c := l.set.add(nc); c != nil {
				return c, nil
			}
			l.set.log.Warn().Msg("router: an address has MaxConnsPerIP connections already; another is closed")
			err = nc.Close()
			if err != nil {
				l.set.log.Warn().Msg("router: a connection did not close")
			}
		case !passing(err):
			return nil, err
		default:
			l.set.log.Warn().Err(err).Dur("pause", pause).Msg("router: accept failed; trying again")
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-l.closed:
				timer.Stop()
				return nil, net.ErrClosed
			}
			pause = min(2*pause, longestPause)
		}
	}
}

// Close implements net.Listener; a second one does nothing.
func (l *listener) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	return err
}

// passing tells whether Accept may work again after the error (accept(2)).
func passing(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPROTO,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// conn is a connection of a connSet.
type conn struct {
	net.Conn

	set    *connSet
	ip     netip.Addr
	step   stepping
	linger atomic.Bool // read on a little before closing
	closed atomic.Bool
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if what, _ := c.step.now(); what == idling && n > 0 {
		c.step.begin(reading, c.set.timeouts.ticks.Load())
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	c.step.begin(writing, c.set.timeouts.ticks.Load())
	n, err := c.Conn.Write(b)
	c.step.begin(idling, c.set.timeouts.ticks.Load())
	return n, err
}

// Close implements net.Conn; a second one does nothing.
func (c *conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	defer c.set.remove(c)
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.linger.Load() {
		if half.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // whatever ends it, the close is next
		}
	}
	return c.Conn.Close()
}
