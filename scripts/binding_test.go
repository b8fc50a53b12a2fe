package scripts

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

func TestPackedBindingKeepsItsPlaces(t *testing.T) {
	t.Parallel()
	var sealed seal.Sealed
	for i := range sealed {
		sealed[i] = byte(i + 1)
	}
	b := packBinding(3, 5, sealed, "order-000001")
	require.Len(t, b, 64, "with an order id of 12 it stays within Redis's default listpack value")
	v, err := viewBinding(b)
	require.NoError(t, err)
	require.Equal(t, byte(3), v.key())
	require.Equal(t, byte(5), v.party())
	require.Equal(t, sealed[:], v.sealed())
	require.Equal(t, "order-000001", string(v.orderID()))
}

// FuzzPackedBinding pins that no value in Redis can make the view of a binding panic.
func FuzzPackedBinding(f *testing.F) {
	f.Add([]byte{})
	f.Add(packBinding(1, 1, seal.Sealed{}, "o"))
	f.Add(packBinding(1, 1, seal.Sealed{}, ""))
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, value []byte) {
		b, err := viewBinding(value)
		if err != nil {
			return
		}
		_, _, _, _, _ = b.key(), b.carrier(), b.party(), b.vn(), b.leaseEnd()
		require.Len(t, b.sealed(), len(seal.Sealed{}))
		require.NotEmpty(t, b.orderID())
	})
}

// FuzzRecords pins that no hash in Redis can make the parsers of orders, ended notes
// and inventory entries panic.
func FuzzRecords(f *testing.F) {
	f.Add("", "447700900001,447700900002", "1,2", "customer,agent", strings.Repeat("t", 32), "1", "4102444800000")
	f.Add("ended", "447700900001", "x", "", "", "300", "-1")
	f.Fuzz(func(_ *testing.T, state, numbers, fences, roles, tokens, key, end string) {
		rec, err := parseRecord(map[string]string{
			"state": state, "numbers": numbers, "fences": fences, "roles": roles,
			"tokens": tokens, "terms": "p c 1 " + key + " " + end, "end": end, "retired": numbers,
		})
		if err == nil {
			_ = rec.assignment("o", epoch)
			_ = rec.release("o", 0)
			if rec.state == vn.Active {
				_ = rec.allocation("o", make([][]seal.Sealed, len(rec.numbers)))
			}
		}
		_, _, _ = parseEnded(state)
		_, _ = parseInventory(447700900001, numbers)
	})
}
