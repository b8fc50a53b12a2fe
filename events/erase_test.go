package events_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
)

func TestWhatHoldsNumbersOfAnOrderIsFoundAndErased(t *testing.T) {
	t.Parallel()
	b, srv := newBus(t)
	js := client(t, srv)
	assigned := `{"order_id":"o-1","pool":"p","parties":[{"role":"customer","number":"` + real1 + `"}]}`
	kept := publish(t, js, "orders.assigned", `{"order_id":"o-11","pool":"p","parties":[]}`)
	mine := publish(t, js, "orders.assigned", assigned)
	publish(t, js, "orders.completed", `{"order_id":"o-1"}`)
	publish(t, js, "orders.assigned", `not JSON`)
	dead := publish(t, js, "dead.orders.assigned", `{"stream":"ORDERS","order_id":"o-1","payload":"Ym94"}`)
	publish(t, js, "dead.orders.assigned", `{"stream":"ORDERS","order_id":"o-2","payload":"b3RoZXI="}`)
	open := func(box []byte) ([]byte, error) {
		if string(box) != "box" {
			return nil, errors.New("sealed by another")
		}
		return []byte(assigned), nil
	}
	find := func(about func(string, []byte) bool) []events.Trace {
		t.Helper()
		traces, err := b.Traces(t.Context(), open, about)
		require.NoError(t, err)
		return traces
	}
	byOrder := func(id string, _ []byte) bool { return id == "o-1" }
	byNumber := func(_ string, payload []byte) bool { return strings.Contains(string(payload), real1) }
	found := find(byOrder)
	require.Len(t, found, 2)
	require.Equal(t, found, find(byNumber))
	require.Equal(t, []any{"ORDERS", mine, "orders.assigned", "DEAD", dead, "o-1"},
		[]any{found[0].Stream, found[0].Sequence, found[0].Subject, found[1].Stream, found[1].Sequence, found[1].OrderID})
	for range 2 { // the second time they are gone
		for _, trace := range found {
			require.NoError(t, b.EraseTrace(t.Context(), trace))
		}
	}
	require.Empty(t, find(byOrder))
	require.NotNil(t, last(t, js, "ORDERS", "orders.completed"), "what holds no number stays")
	s, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	_, err = s.GetMsg(t.Context(), kept)
	require.NoError(t, err)
	require.NoError(t, b.Audit(t.Context(), events.AuditEntry{ID: "1", Action: events.AuditErase}))
	require.Error(t, b.EraseTrace(t.Context(), events.Trace{Stream: "AUDIT", Sequence: 1}), "a stream that lets nothing be deleted says so")
}
