package replenisher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callmask/callmask/events"
)

// errDeposed means that somebody else acts for the pool now.
var errDeposed = errors.New("somebody else buys for this pool now")

// lease is this process's right to act for a pool. Safety is the stream's: it refuses
// what is written under a lease that has another record by now. Time only decides when
// another process may try, and when we stop without asking.
type lease struct {
	bus     Bus
	pool    string
	lasts   time.Duration
	timeout time.Duration
	now     func() time.Time

	acting atomic.Pointer[time.Time] // until when we act without asking; nil: not at all

	// mu lets one write at a time name the lease's last record: a renewal makes a new
	// one, and a replicated stream refuses two that are under way together.
	mu    sync.Mutex
	owner string    // ours of this term, new at each take-over; empty: we do not hold it
	seq   uint64    // of the last record known, which is ours while owner is set
	since time.Time // when somebody else's record seq was first seen
}

func (r *Replenisher) newLease(pool string) *lease {
	return &lease{bus: r.bus, pool: pool, lasts: r.cfg.Lease, timeout: r.cfg.Timeout, now: func() time.Time { return r.now() }}
}

// held tells whether we act, without asking anybody.
func (l *lease) held() bool {
	until := l.acting.Load()
	return until != nil && l.now().Before(*until)
}

// term names the take-over by which we hold the lease; empty when we do not.
func (l *lease) term() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owner
}

// take renews the lease, or takes it when it is free, and tells whether we hold it
// then. Whoever takes it must look at everything anew.
func (l *lease) take(ctx context.Context) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner != "" {
		err := l.renewLocked(ctx)
		if !errors.Is(err, errDeposed) {
			return err == nil, err
		}
	}
	last, seq, err := l.read(ctx)
	if err != nil {
		return false, err
	}
	if seq != l.seq || l.since.IsZero() {
		l.seq, l.since = seq, l.now()
	}
	// A clock that is wrong makes us wait once as long as a lease lasts, not for ever.
	if l.now().Before(last.Until) && l.now().Sub(l.since) < l.lasts {
		return false, nil
	}
	l.owner, l.since = rand.Text(), time.Time{}
	err = l.renewLocked(ctx)
	if errors.Is(err, errDeposed) {
		return false, nil // somebody was quicker
	}
	return err == nil, err
}

// renew keeps a lease that we hold. It takes none: a process that has lost a lease
// must look at everything anew before it acts again.
func (l *lease) renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewLocked(ctx)
}

func (l *lease) renewLocked(ctx context.Context) error {
	asked := l.now()
	record := events.Lease{Owner: l.owner, Until: asked.Add(l.lasts)}
	err := l.fenced(ctx, func(ctx context.Context, last uint64) error {
		seq, err := l.bus.PutLease(ctx, l.pool, record, last)
		if err == nil {
			l.seq = seq
		}
		return err
	})
	if err == nil {
		until := asked.Add(l.lasts - l.lasts/5) // before others may take it
		l.acting.Store(&until)
	}
	return err
}

// sure returns nil when we act, and asks when the time is over; else errDeposed.
func (l *lease) sure(ctx context.Context) error {
	if l.held() {
		return nil
	}
	return l.renew(ctx)
}

// under makes a write that the stream refuses when the lease is not ours any more.
func (l *lease) under(ctx context.Context, write func(ctx context.Context, fence uint64) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fenced(ctx, write)
}

// fenced makes a write that names the lease's last record; mu is held. When the stream
// refuses it, the record there tells why: it is somebody else's, or a newer one of
// ours, whose own write had seemed to fail.
func (l *lease) fenced(ctx context.Context, write func(ctx context.Context, fence uint64) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	for pause := time.Millisecond; ; pause *= 2 {
		if l.owner == "" {
			return errDeposed
		}
		err := write(ctx, l.seq)
		if !errors.Is(err, events.ErrFenced) {
			return err
		}
		last, seq, err := l.read(ctx)
		switch {
		case err != nil:
			return err
		case seq == l.seq: // a write of ours is not quite done
			if err := rest(ctx, pause); err != nil {
				return err
			}
		case last.Owner == l.owner:
			l.seq = seq
		default:
			l.lose()
			return errDeposed
		}
	}
}

// giveUp ends the lease for others to take it at once.
func (l *lease) giveUp(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner == "" {
		return nil
	}
	record := events.Lease{Owner: l.owner}
	err := l.fenced(ctx, func(ctx context.Context, last uint64) error {
		_, err := l.bus.PutLease(ctx, l.pool, record, last)
		return err
	})
	l.lose()
	if errors.Is(err, errDeposed) {
		return nil
	}
	return err
}

func (l *lease) lose() {
	l.owner, l.seq, l.since = "", 0, time.Time{}
	l.acting.Store(nil)
}

func (l *lease) read(ctx context.Context) (events.Lease, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	last, seq, err := l.bus.Lease(ctx, l.pool)
	if err != nil {
		return last, 0, fmt.Errorf("read the lease: %w", err)
	}
	return last, seq, nil
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
