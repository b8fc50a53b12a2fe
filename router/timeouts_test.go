package router

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func TestWhoTakesTooLongIsCutAndNobodyElse(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	for name, blocked := range map[string]struct {
		prepare func(c *conn)
		wait    func(c *conn) error
	}{
		"reading": {func(*conn) {}, func(c *conn) error { _, err := c.Read(make([]byte, 1)); return err }},
		"idling":  {func(c *conn) { c.step.begin(idling, 0) }, func(c *conn) error { _, err := c.Read(make([]byte, 1)); return err }},
		"writing": {func(*conn) {}, func(c *conn) error { _, err := c.Write([]byte("nobody reads this")); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := newTimeouts(limit, limit, limit)
			set := newConnSet(0, limits, zerolog.Nop())
			near, far := net.Pipe()
			defer func() { require.NoError(t, far.Close()) }()
			c := set.add(near)
			blocked.prepare(c)
			done := make(chan error, 1)
			go func() { done <- blocked.wait(c) }()
			require.Eventually(t, func() bool {
				what, _ := c.step.now()
				return what != writing || name == "writing"
			}, patience, time.Millisecond)
			for range int64(limit/limits.every) + 1 {
				limits.ticks.Add(1)
				set.each(limits.check)
			}
			select {
			case err := <-done:
				require.Fail(t, "too early", "%v", err)
			default:
			}
			require.Eventually(t, func() bool { // the writer may have begun some ticks late
				limits.ticks.Add(1)
				set.each(limits.check)
				select {
				case err := <-done:
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
					return true
				default:
					return false
				}
			}, patience, time.Millisecond)
			require.NoError(t, c.Close())
		})
	}
}

func TestStepAndTickAreOneWord(t *testing.T) {
	t.Parallel()
	var s stepping
	for _, what := range []step{reading, writing, idling} {
		s.begin(what, 1<<40)
		got, tick := s.now()
		require.Equal(t, what, got)
		require.EqualValues(t, 1<<40, tick)
	}
}
