package seal

import (
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

const (
	alice = vn.Number(12025550123)
	bob   = vn.Number(447700900123)
	order = "order-1"
)

// The golden values were computed by another implementation (Python's hmac and
// cryptography): a change here makes everything stored unreadable.
const (
	goldenToken  = "e391ce81535bb2b9a9923f7d621fe352"
	goldenSealed = "6465666768696a6b6c6d6e6f284b52676202d88abf6eed02cf5e2400ad7613feda4076e8"
	goldenBox    = "01076465666768696a6b6c6d6e6fc19ee57cf958016eaf07fdacc0be53dbab942cfaa9b33c46d761bd96c42d63a44c3b2eaa92d6"
)

func TestTokenFormatIsPinned(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	token := k.Token(alice)
	require.Equal(t, goldenToken, hex.EncodeToString(token[:]))
	again := k.Token(alice)
	require.Equal(t, token, again, "a pooled hash starts anew")
}

func TestSealedFormatIsPinned(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	sealed, err := hex.DecodeString(goldenSealed)
	require.NoError(t, err)
	n, err := k.Open(sealed, []byte(order), k.Token(alice), 1)
	require.NoError(t, err)
	require.True(t, n == bob)
}

func TestBoxFormatIsPinned(t *testing.T) {
	t.Parallel()
	keys, err := Open(writeKeyset(t, entry{ID: 7, State: Primary, Secret: fixedSecret(0), Created: anHourAgo}))
	require.NoError(t, err)
	box, err := hex.DecodeString(goldenBox)
	require.NoError(t, err)
	plain, err := keys.OpenBytes(box, []byte("dead.orders.assigned"))
	require.NoError(t, err)
	require.Equal(t, `{"order_id":"order-1"}`, string(plain))
}

func TestTokenDependsOnKeyAndNumber(t *testing.T) {
	t.Parallel()
	k, other := fixedKey(t, 7, 0), fixedKey(t, 7, 1)
	require.NotEqual(t, k.Token(alice), k.Token(bob))
	require.NotEqual(t, k.Token(alice), other.Token(alice))
}

func TestSealedNumberOpensInItsPlace(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	for _, orderID := range []string{"a", order, strings.Repeat("x", 64)} {
		for _, n := range []vn.Number{1_000_000, bob, 999_999_999_999_999} {
			for _, party := range []byte{0, 7, 255} {
				sealed, err := k.Seal(n, orderID, k.Token(alice), party)
				require.NoError(t, err)
				got, err := k.Open(sealed[:], []byte(orderID), k.Token(alice), party)
				require.NoError(t, err)
				require.True(t, got == n)
			}
		}
	}
}

func TestSealingTwiceGivesTwoValues(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	first, err := k.Seal(bob, order, k.Token(alice), 1)
	require.NoError(t, err)
	second, err := k.Seal(bob, order, k.Token(alice), 1)
	require.NoError(t, err)
	require.NotEqual(t, first, second, "nonces are never used twice")
}

func TestSealedNumberOpensNowhereElse(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	caller := k.Token(alice)
	sealed, err := k.Seal(bob, order, caller, 1)
	require.NoError(t, err)
	shut := func(t *testing.T, k *Key, sealed []byte, orderID string, caller Token, party byte) {
		t.Helper()
		n, err := k.Open(sealed, []byte(orderID), caller, party)
		require.ErrorIs(t, err, ErrNotOpened)
		require.True(t, n == 0)
	}
	t.Run("every change of every byte", func(t *testing.T) {
		t.Parallel()
		for i := range sealed {
			for change := 1; change < 256; change++ {
				changed := sealed
				changed[i] ^= byte(change)
				shut(t, k, changed[:], order, caller, 1)
			}
		}
	})
	t.Run("every change of every byte of the caller", func(t *testing.T) {
		t.Parallel()
		for i := range caller {
			for change := 1; change < 256; change++ {
				other := caller
				other[i] ^= byte(change)
				shut(t, k, sealed[:], order, other, 1)
			}
		}
		shut(t, k, sealed[:], order, k.Token(bob), 1)
	})
	t.Run("every other party", func(t *testing.T) {
		t.Parallel()
		for party := range 256 {
			if party != 1 {
				shut(t, k, sealed[:], order, caller, byte(party))
			}
		}
	})
	t.Run("another order", func(t *testing.T) {
		t.Parallel()
		for _, orderID := range []string{"", "order-2", "order-", "order-11", "Order-1", strings.Repeat("x", 65)} {
			shut(t, k, sealed[:], orderID, caller, 1)
		}
	})
	t.Run("another key", func(t *testing.T) {
		t.Parallel()
		shut(t, fixedKey(t, 7, 1), sealed[:], order, caller, 1)
		shut(t, fixedKey(t, 8, 0), sealed[:], order, caller, 1) // the same secret under another id
	})
	t.Run("another length", func(t *testing.T) {
		t.Parallel()
		for n := range sealed {
			shut(t, k, sealed[:n], order, caller, 1)
		}
		shut(t, k, append(sealed[:], 0), order, caller, 1)
	})
	t.Run("an order id that runs into the caller", func(t *testing.T) {
		t.Parallel()
		// The same associated bytes, cut at another place, cannot be expressed: the
		// caller always has 16 bytes. The nearest attempt does not open.
		longer := order + string(caller[:1])
		var moved Token
		copy(moved[:], caller[1:])
		moved[15] = 1
		shut(t, k, sealed[:], longer, moved, 1)
	})
}

func TestSealRefusesWhatIsNoNumberOrOrder(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	for _, n := range []vn.Number{0, 999_999, 1_000_000_000_000_000} {
		sealed, err := k.Seal(n, order, Token{}, 0)
		require.Error(t, err)
		require.Zero(t, sealed)
	}
	for _, orderID := range []string{"", strings.Repeat("x", 65)} {
		_, err := k.Seal(bob, orderID, Token{}, 0)
		require.Error(t, err)
	}
}

func TestSealedNonsenseIsNoNumber(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	context := appendContext(nil, k.ID(), order, k.Token(alice), 1)
	for _, plain := range [][]byte{make([]byte, 8), {255, 255, 255, 255, 255, 255, 255, 255}} {
		sealed := k.sealer.Seal(nil, nil, plain, context)
		_, err := k.Open(sealed, []byte(order), k.Token(alice), 1)
		require.ErrorIs(t, err, ErrNotOpened)
	}
}

func TestBoxOpensOnlyUntouchedAndInItsContext(t *testing.T) {
	t.Parallel()
	keys, err := Open(writeKeyset(t, testEntry(3, Primary)))
	require.NoError(t, err)
	context := []byte("dead.orders.assigned")
	for _, plain := range []string{"", "x", strings.Repeat("payload ", 10_000)} {
		box, err := keys.Primary().SealBytes([]byte(plain), context)
		require.NoError(t, err)
		got, err := keys.OpenBytes(box, context)
		require.NoError(t, err)
		require.Equal(t, plain, string(got))
	}
	box, err := keys.Primary().SealBytes([]byte("payload"), context)
	require.NoError(t, err)
	require.NotContains(t, string(box), "payload")
	for i := range box {
		changed := append([]byte(nil), box...)
		changed[i] ^= 1
		_, err := keys.OpenBytes(changed, context)
		require.Error(t, err, "byte %d", i)
		_, err = keys.OpenBytes(box[:i], context)
		require.Error(t, err, "cut to %d bytes", i)
	}
	for _, other := range []string{"", "dead.orders", "dead.orders.assigned."} {
		_, err := keys.OpenBytes(box, []byte(other))
		require.ErrorIs(t, err, ErrNotOpened)
	}
	box[1] = 9
	_, err = keys.OpenBytes(box, context)
	require.ErrorIs(t, err, ErrKeyUnknown)
}

func TestOversizedPayloadIsRefused(t *testing.T) {
	t.Parallel()
	_, err := fixedKey(t, 7, 0).SealBytes(make([]byte, maxPayload+1), nil)
	require.ErrorIs(t, err, errTooLong)
}

func TestOneSecretGivesUnrelatedKeys(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	context := appendContext(nil, k.ID(), order, k.Token(alice), 1)
	box := k.boxer.Seal(nil, nil, []byte("12345678"), context)
	_, err := k.Open(box, []byte(order), k.Token(alice), 1)
	require.ErrorIs(t, err, ErrNotOpened, "a box is no sealed number")
}

func TestKeyNeverPrintsItsSecret(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 65) // secret "ABCDEF…"
	keys, err := Open(writeKeyset(t, testEntry(65, Primary)))
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		require.Equal(t, "key 7", fmt.Sprintf(verb, k))
		require.Equal(t, "keyset "+keys.path, fmt.Sprintf(verb, keys))
	}
}

func TestKeyIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	k := fixedKey(t, 7, 0)
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			caller := vn.Number(12025550100 + w)
			want := k.Token(caller)
			for i := range 500 {
				n := vn.Number(447700900000 + i)
				sealed, err := k.Seal(n, order, want, byte(w))
				if err != nil || k.Token(caller) != want {
					t.Errorf("worker %d: a token or seal went wrong: %v", w, err)
					return
				}
				if got, err := k.Open(sealed[:], []byte(order), want, byte(w)); err != nil || got != n {
					t.Errorf("worker %d: another number came out: %v", w, err)
					return
				}
			}
		})
	}
	workers.Wait()
}

func FuzzOpenNeverOpensWhatWasNotSealed(f *testing.F) {
	golden, err := hex.DecodeString(goldenSealed)
	require.NoError(f, err)
	f.Add(golden, []byte(order), byte(1))
	f.Add(golden[:35], []byte(order), byte(1))
	f.Add(make([]byte, 36), []byte("x"), byte(0))
	f.Add([]byte{}, []byte{}, byte(255))
	k := fixedKey(f, 7, 0)
	f.Fuzz(func(t *testing.T, sealed, orderID []byte, party byte) {
		_, err := k.Open(sealed, orderID, k.Token(alice), party)
		same := string(sealed) == string(golden) && string(orderID) == order && party == 1
		require.Equal(t, same, err == nil)
	})
}
