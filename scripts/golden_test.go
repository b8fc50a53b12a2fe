package scripts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// testGoldenKeyStates pins what every verb leaves in Redis, key by key. Run with
// CALLMASK_GENERATE=1 the files are rewritten.
func testGoldenKeyStates(t *testing.T, f *fixture) {
	t.Helper()
	golden := func(name string, a *Allocation, act func()) {
		t.Helper()
		before := f.dump(t, a)
		act()
		got := "before\n------\n" + before + "\nafter\n-----\n" + f.dump(t, a)
		file := filepath.Join("testdata", "golden", name+".txt")
		if os.Getenv("CALLMASK_GENERATE") != "" && strings.Contains(t.Name(), "/single/") {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), got, "%s: if this is intended, run `make generate`", name)
	}
	golden("refill", nil, func() { f.refill(t, sim, vns(2)...) })

	// Which of the two VNs becomes whose is left to chance: the dump names their roles.
	a := f.allocate(t, "order-1", customer, agent)
	golden("allocate-replay", &a, func() { f.allocate(t, "order-1", customer, agent) })
	golden("settle-assigned", &a, func() {
		require.NoError(t, f.SettleAssigned(t.Context(), &a, []uint64{11, 12}))
	})
	f.advance(t, time.Hour)
	golden("extend", &a, func() {
		_, err := f.Extend(t.Context(), "order-1", 3*time.Hour)
		require.NoError(t, err)
	})
	golden("drain-leased", &a, func() {
		d, err := f.Drain(t.Context(), pool, a.Numbers[1].VN)
		require.NoError(t, err)
		require.False(t, d.Left)
	})
	f.advance(t, time.Minute)
	var r Release
	golden("release", &a, func() {
		var err error
		r, err = f.Release(t.Context(), "order-1", vn.Completed)
		require.NoError(t, err)
	})
	golden("release-unknown", &a, func() {
		_, err := f.Release(t.Context(), "order-0", vn.Cancelled)
		require.NoError(t, err)
	})
	golden("settle-released", &a, func() {
		require.NoError(t, f.SettleReleased(t.Context(), &r, []uint64{21, 22}))
	})
	f.advance(t, 11*time.Minute)
	golden("reap-rested", &a, func() {
		ended, more, err := f.Reap(t.Context())
		require.NoError(t, err)
		require.Empty(t, ended)
		require.False(t, more)
	})
	golden("drain-free", &a, func() {
		d, err := f.Drain(t.Context(), pool, a.Numbers[0].VN)
		require.NoError(t, err)
		require.True(t, d.Left)
	})
	f.advance(t, 26*time.Hour)
	require.NotContains(t, f.dump(t, nil), "order-1", "tombstones go")
}

// testGoldenExpiry pins the key states around a lease that runs out by itself.
func testGoldenExpiry(t *testing.T, f *fixture) {
	t.Helper()
	f.refill(t, sim, vns(2)...)
	a := f.allocate(t, "order-1", customer, agent)
	f.advance(t, ttl)
	before := f.dump(t, &a)
	require.NotContains(t, before, ":vn:", "Redis itself ends the bindings")
	ended, _, err := f.Reap(t.Context())
	require.NoError(t, err)
	require.Len(t, ended, 1)
	require.Equal(t, vn.Expired, ended[0].Reason)
	require.Equal(t, epoch.Add(ttl), ended[0].EndedAt)
	st := f.stockOf(t, sim)
	require.Equal(t, Stock{Pool: pool, Carrier: "sim", Cooling: 2, Total: 2}, st)
}
