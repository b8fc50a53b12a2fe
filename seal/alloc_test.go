//go:build !race

package seal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The race detector makes sync.Pool drop what it is given, so this is counted
// without it. Not parallel: AllocsPerRun counts the whole process.
func TestTokenSealAndOpenDoNotAllocate(t *testing.T) {
	k := fixedKey(t, 7, 0)
	caller := k.Token(alice)
	sealed, err := k.Seal(bob, order, caller, 1)
	require.NoError(t, err)
	stored, orderID := append([]byte(nil), sealed[:]...), []byte(order)
	wrong := append([]byte(nil), stored...)
	wrong[20] ^= 1

	for name, do := range map[string]func(){
		"token": func() { _ = k.Token(alice) },
		"seal":  func() { _, _ = k.Seal(bob, order, caller, 1) },
		"open": func() {
			if n, err := k.Open(stored, orderID, caller, 1); err != nil || n != bob {
				panic("does not open")
			}
		},
		"open, refused": func() {
			if _, err := k.Open(wrong, orderID, caller, 1); err == nil {
				panic("opens")
			}
		},
	} {
		require.Zero(t, testing.AllocsPerRun(1000, do), name)
	}
}

func TestKeysetReadsDoNotAllocate(t *testing.T) {
	keys, err := Open(writeKeyset(t, testEntry(1, Previous), testEntry(2, Primary), testEntry(3, Next)))
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_, known := keys.ByID(1)
		if !known || len(keys.Accepted()) != 3 || keys.Primary() == nil {
			panic("not the keyset")
		}
	}))
}

func BenchmarkToken(b *testing.B) {
	k := fixedKey(b, 7, 0)
	b.ReportAllocs()
	for b.Loop() {
		_ = k.Token(alice)
	}
}

func BenchmarkOpen(b *testing.B) {
	k := fixedKey(b, 7, 0)
	caller, orderID := k.Token(alice), []byte(order)
	sealed, err := k.Seal(bob, order, caller, 1)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(sealed[:], orderID, caller, 1); err != nil {
			b.Fatal(err)
		}
	}
}
