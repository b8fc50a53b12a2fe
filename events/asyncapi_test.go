package events_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/internal/testkit/contract"
)

// Every message that can be published, with every field that it can have, read back
// from the streams and held against the AsyncAPI document, its headers included.
func TestEveryMessageIsAsTheAsyncAPIDocumentSays(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js, ctx, at := client(t, srv), t.Context(), time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	later := at.Add(time.Hour)
	parties := []events.VNParty{{Role: "customer", VN: "+" + vn1}, {Role: "agent", VN: "+" + vn2}}
	intent := events.PurchaseIntent{
		VN: vn1, Pool: "demo", Carrier: "sim", Ref: "PN1", For: events.ReasonForecast, Price: "1.15", Currency: "USD", At: at,
	}
	for _, err := range []error{
		b.Assigned(ctx, events.VNAssigned{OrderID: "o-1", Pool: "demo", Parties: parties, ExpiresAt: later}),
		b.Released(ctx, events.VNReleased{OrderID: "o-1", Reason: "expired"}),
		b.Failed(ctx, events.VNFailed{OrderID: "o-1", Reason: events.FailedOrderConflict}, 7),
		b.PoolLow(ctx, events.PoolLow{Pool: "demo", Free: 3, Target: 40}),
		b.PoolBought(ctx, events.PoolBought{
			Pool: "demo", VN: "+" + vn1, Carrier: "sim", Price: "1.15", Currency: "USD", Reason: events.ReasonAdopted, At: at,
		}, at),
		b.PoolReleased(ctx, events.PoolReleased{
			Pool: "demo", VN: "+" + vn1, Carrier: "sim", Price: "1", Currency: "USD", Reason: events.ReleasedSurplus, At: at,
		}, at),
		b.PoolCapReached(ctx, events.PoolCapReached{Pool: "demo", Cap: "500.00", Committed: "499.50", Currency: "USD", Missing: 2}),
		b.PoolRunningOut(ctx, events.PoolRunningOut{Pool: "demo", Minutes: 12.5}),
		b.Intent(ctx, intent),
	} {
		require.NoError(t, err)
	}
	intent.Reason = events.ReleasedGhost
	require.NoError(t, b.CloseIntent(ctx, intent, events.OutcomeReleased))
	_, err := b.PutLease(ctx, "demo", events.Lease{Owner: "me", Until: later}, 0)
	require.NoError(t, err)
	_, _, err = b.Record(ctx, events.Record{
		Kind: events.KindAssigned, VN: vn1, Pool: "demo", Carrier: "sim", Ref: "PN1", OrderID: "o-1", Reason: "completed",
		ExpiresAt: later, EndedAt: later, Cooldown: time.Minute, KeyID: 3, Party: 1, Roles: []string{"customer", "agent"},
		VNs: []string{vn1, vn2}, Tokens: [][]byte{{1}, {2}}, Sealed: [][]byte{{3}, nil},
	})
	require.NoError(t, err)
	b.Decided(&events.Decision{Carrier: "sim", CallID: []byte("CA1"), VN: 12025550150, OrderID: []byte("o-1"), At: at, Took: time.Millisecond})
	b.Status(&events.CallStatus{
		Carrier: "sim", CallID: "CA1", OrderID: "o-1", Leg: "callee", Status: "no_answer", Cause: "480", DurationS: 7, At: at,
	})
	b.Message(&events.MessageDecided{
		Carrier: "sim", MessageID: "SM1", VN: "+" + vn1, OrderID: "o-1", Reason: "connected", Verdict: "media_refused", At: at,
	})
	consume(t, b, events.Consumer{
		Stream: "ORDERS", Durable: "dead", Dead: func(data []byte) ([]byte, error) { return data, nil },
	}, func(context.Context, events.Message) events.Result { return events.Dead("of no use") })
	publish(t, js, "orders.assigned", `{}`)
	deadLetter(t, js, "orders.assigned")
	require.Eventually(t, func() bool { return count(t, js, "CALLS") == 3 }, within, tick)

	document := contract.AsyncAPI(t)
	seen := map[string]bool{}
	for _, stream := range []string{"VN", "CALLS", "POOLS", "LEDGER", "DEAD"} {
		s, err := js.Stream(ctx, stream)
		require.NoError(t, err)
		for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
			msg, err := s.GetMsg(ctx, seq)
			if err != nil {
				require.ErrorIs(t, err, jetstream.ErrMsgNotFound) // a later record of the same number
				continue
			}
			document.Check(t, msg.Subject, msg.Data)
			document.CheckHeaders(t, msg.Subject, msg.Header)
			seen[document.On(t, msg.Subject).Address] = true
		}
	}
	for _, c := range document.Channels() {
		require.Equal(t, c.Type != "", seen[c.Address], "%s: published and not described, or described and not published", c.Address)
	}
}

// What the document gives as examples of incoming messages is read without loss.
func TestTheAsyncAPIExamplesAreReadWhole(t *testing.T) {
	t.Parallel()
	document, taken := contract.AsyncAPI(t), 0
	for _, c := range document.Channels() {
		into := map[string]any{
			"orders.placed": &events.OrderPlaced{}, "orders.assigned": &events.OrderAssigned{},
			"orders.completed": &events.OrderEnded{}, "orders.cancelled": &events.OrderEnded{},
		}[c.Address]
		if into == nil {
			continue
		}
		for _, example := range c.Examples {
			require.NoError(t, events.Decode(example, into))
			again, err := json.Marshal(into)
			require.NoError(t, err)
			require.JSONEq(t, string(example), string(again))
			taken++
		}
	}
	require.Equal(t, 4, taken)
}
