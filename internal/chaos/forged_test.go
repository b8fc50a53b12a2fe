package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// The judges must find what is planted into a history that is right by itself.

const (
	ann, bob, cid, dee, eve vn.Number = 447700900001, 447700900002, 447700900003, 447700900004, 447700900005
	vnA, vnB, vnC, vnD      vn.Number = 12025550101, 12025550102, 12025550103, 12025550104
	firstOrder, secondOrder           = "first", "second"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// at is so many seconds after noon.
func at(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

// sound is a history in which nothing is wrong: ann and bob have an order from 0 to 20, cid
// and dee one from 30 on with the same VNs, and Redis is behind from 18 to 19.
func sound() *world {
	w := newWorld()
	w.behind = []span{{at(18), at(19)}}
	w.add(&order{
		id: firstOrder, numbers: pair{ann, bob}, begun: at(0), ending: at(19.9), over: at(20), api: []pair{{vnA, vnB}},
		told: []told{{at(1), pair{vnA, vnB}, at(3600)}, {at(5), pair{vnA, vnB}, at(3700)}},
	})
	w.add(&order{id: secondOrder, numbers: pair{cid, dee}, begun: at(29), told: []told{{at(30), pair{vnA, vnB}, at(3600)}}})
	w.calls = []call{
		{began: at(2), ended: at(2.1), calling: ann, called: vnB, order: firstOrder, connected: true, rang: bob, shown: vnA},
		{began: at(2.5), ended: at(2.6), calling: ann, called: vnA, order: firstOrder, cause: "not_in_service"}, // her own
		{began: at(3), ended: at(3.1), calling: eve, called: vnB, order: firstOrder, cause: "not_in_service"},
		{began: at(18.5), ended: at(18.6), calling: bob, called: vnA, order: firstOrder, cause: "not_in_service"}, // Redis is behind
		{began: at(21), ended: at(21.1), calling: bob, called: vnA, order: firstOrder, connected: true, rang: ann, shown: vnB},
		{began: at(22), ended: at(22.1), calling: bob, called: vnA, order: firstOrder, cause: "order_ended"},
		{began: at(40), ended: at(40.1), calling: dee, called: vnA, order: secondOrder, connected: true, rang: cid, shown: vnB},
	}
	return w
}

func (w *world) verdicts() *verdicts {
	v := w.judge()
	w.judgeRegisters(v, 10*time.Second)
	return v
}

func TestTheJudgesFindNothingInASoundHistory(t *testing.T) {
	t.Parallel()
	v := sound().verdicts()
	require.Empty(t, v.wrong)
	require.Equal(t, verdicts{connected: 3, lagging: 1, lateCalls: 1, latest: time.Second}, *v)
}

func TestTheJudgesFindWhatIsPlanted(t *testing.T) {
	t.Parallel()
	for what, plant := range map[string]struct {
		bug  func(w *world)
		says string
	}{
		"a stranger is put through": {func(w *world) { w.calls[2].connected, w.calls[2].rang, w.calls[2].shown = true, bob, vnA }, "STRANGERS"},
		"the wrong telephone rings": {func(w *world) { w.calls[0].rang = dee }, "STRANGERS"},
		"the wrong VN is shown":     {func(w *world) { w.calls[0].shown = vnC }, "never had"},
		"a VN of nobody's routes":   {func(w *world) { w.calls[0].called = vnC }, "never had"},
		"a real number is shown":    {func(w *world) { w.calls[0].shown = ann }, "never had"},
		"a call after the lease":    {func(w *world) { w.orders[firstOrder].told[1].until = at(1) }, "after its lease"},
		"a call long after the end": {func(w *world) { w.calls[4].began, w.calls[4].ended = at(36), at(36.1) }, "after its end"},
		"a call after the end":      {func(w *world) { w.behind = nil }, "after its end"},
		"a party is refused":        {func(w *world) { w.behind = nil }, "was refused (not_in_service) while Redis was sound"},
		"other VNs without a fault": {func(w *world) { w.orders[firstOrder].told[1].vns = pair{vnC, vnD} }, "other VNs while Redis was sound"},
		"the API says otherwise":    {func(w *world) { w.orders[firstOrder].api[0] = pair{vnC, vnD} }, "never announced"},
		"an order comes back": {func(w *world) {
			w.behind = nil
			o := w.orders[firstOrder]
			o.told = append(o.told, told{at(26), pair{vnA, vnB}, at(3600)})
		}, "came back"},
		"a VN is in two orders": {func(w *world) {
			o := w.orders[secondOrder]
			o.begun, o.told[0].at = at(10), at(11)
		}, "NOT LINEARIZABLE"},
		"an end that never was": {func(w *world) { w.orders[firstOrder].ending, w.orders[firstOrder].over = time.Time{}, time.Time{} }, "NOT LINEARIZABLE"},
		"a call of an old order on a VN that another has": {func(w *world) {
			w.calls[4].began, w.calls[4].ended = at(31), at(31.1)
			w.behind = []span{{at(18), at(32)}}
		}, "NOT LINEARIZABLE"},
	} {
		w := sound()
		plant.bug(w)
		require.Contains(t, strings.Join(w.verdicts().wrong, "\n"), plant.says, what)
	}
}

// TestTheModelKnowsWhatIsNotKnown: an end without an answer may have happened, and may not.
func TestTheModelKnowsWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	w := sound()
	w.orders[firstOrder].over = time.Time{}
	require.Empty(t, w.verdicts().wrong)
	w.calls = append(w.calls, call{began: at(25), ended: at(25.1), calling: bob, called: vnA, order: firstOrder, connected: true, rang: ann, shown: vnB})
	require.Empty(t, w.verdicts().wrong)
}
