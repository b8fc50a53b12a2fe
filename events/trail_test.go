package events_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
)

// TestAReaderGoesOnWhereItStopped pins that every record is read once, with the one that it
// follows, also after an error in the middle.
func TestAReaderGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	b, _ := newBus(t)
	type seen struct {
		vn         string
		seq, after uint64
	}
	errStop := errors.New("stop")
	var got []seen
	read := func(from events.Mark, stopAt int) (events.Mark, error) {
		got = nil
		return b.RecordsFrom(t.Context(), from, func(r *events.Record, seq uint64, stored time.Time) error {
			require.WithinDuration(t, time.Now(), stored, time.Minute)
			got = append(got, seen{r.VN, seq, r.After})
			if len(got) == stopAt {
				return errStop
			}
			return nil
		})
	}
	mark, err := read(events.Mark{}, 0)
	require.NoError(t, err)
	require.Empty(t, got)

	owned := events.Record{Kind: events.KindOwned, VN: vn1, Pool: "jakarta", Carrier: "sim"}
	require.EqualValues(t, 1, record(t, b, owned))
	require.NoError(t, b.Intent(t.Context(), events.PurchaseIntent{VN: vn2, Pool: "jakarta", Carrier: "sim", At: time.Now()}))
	assigned := assignedRecord("o-1", vn1, time.Now().Add(time.Hour))
	assigned.After = 1
	require.EqualValues(t, 3, record(t, b, assigned))
	owned.VN = vn2
	require.EqualValues(t, 4, record(t, b, owned))

	stopped, err := read(mark, 1)
	require.ErrorIs(t, err, errStop)
	require.Equal(t, []seen{{vn1, 3, 1}}, got)
	mark, err = read(stopped, 0)
	require.NoError(t, err)
	require.Equal(t, []seen{{vn2, 4, 0}}, got)
	mark, err = read(mark, 0)
	require.NoError(t, err)
	require.Empty(t, got)
	require.EqualValues(t, 5, mark.Next)

	var intents []string
	_, err = b.IntentsFrom(t.Context(), events.Mark{}, func(in *events.PurchaseIntent) error {
		intents = append(intents, in.VN)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{vn2}, intents)
}

// TestAFirstReadingIsBounded pins by time and by number where the first reading of a stream
// that may be long begins, and that what is not ours is passed over.
func TestAFirstReadingIsBounded(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	for i := range 5 {
		require.NoError(t, b.Released(t.Context(), events.VNReleased{OrderID: "o-" + strconv.Itoa(i), Reason: "completed"}))
	}
	publish(t, client(t, srv), events.SubjectAssigned, "no JSON")
	require.NoError(t, b.Assigned(t.Context(), events.VNAssigned{OrderID: "o-6", ExpiresAt: time.Now()}))
	f := func(from events.Mark, want ...string) {
		t.Helper()
		var got []string
		mark, err := b.AnnouncementsFrom(t.Context(), from, func(a *events.Announcement) error {
			if a.Released != nil {
				got = append(got, a.Released.OrderID)
			} else {
				got = append(got, a.Assigned.OrderID)
			}
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.EqualValues(t, 8, mark.Next)
	}
	f(events.Mark{}, "o-0", "o-1", "o-2", "o-3", "o-4", "o-6")
	f(events.Mark{Most: 4}, "o-3", "o-4", "o-6")
	f(events.Mark{Since: time.Now().Add(-time.Hour)}, "o-0", "o-1", "o-2", "o-3", "o-4", "o-6")
	f(events.Mark{Since: time.Now().Add(-time.Hour), Most: 1}, "o-6")
	f(events.Mark{Since: time.Now().Add(time.Hour)})
	f(events.Mark{Next: 5, Most: 1}, "o-4", "o-6")
}
