package router

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBudgetEndsItselfAndEverythingDerivedFromIt(t *testing.T) {
	t.Parallel()
	b := newBudget()
	b.start(time.Now().Add(20 * time.Millisecond))
	deadline, ok := b.Deadline()
	require.True(t, ok)
	require.WithinDuration(t, time.Now(), deadline, patience)
	require.NoError(t, b.Err())
	derived, cancel := context.WithTimeout(b, time.Hour)
	defer cancel()
	gone, cancelGone := context.WithCancel(b)
	cancelGone()
	select {
	case <-derived.Done():
	case <-time.After(patience):
		require.Fail(t, "the derived context goes on")
	}
	require.ErrorIs(t, derived.Err(), context.DeadlineExceeded)
	require.ErrorIs(t, gone.Err(), context.Canceled)
	require.ErrorIs(t, b.Err(), context.DeadlineExceeded)
	require.False(t, b.stop(), "its time ran out")
	late := make(chan struct{})
	require.False(t, b.AfterFunc(func() { close(late) })())
	<-late
}

func TestBudgetIsUsedAgainUnlessSomebodyHoldsOnToIt(t *testing.T) {
	t.Parallel()
	b := newBudget()
	for range 3 {
		b.start(time.Now().Add(time.Hour))
		_, cancel := context.WithCancel(b)
		cancel()
		require.True(t, b.stop())
	}
	b.start(time.Now().Add(time.Hour))
	_, cancel := context.WithCancel(b)
	defer cancel()
	require.False(t, b.stop(), "a context derived from it lives on")
}
