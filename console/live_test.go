package console

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// stream is a connection that is kept up to date.
type stream struct {
	lines *bufio.Reader
	close func()
}

func (p *person) watch(t *testing.T, query string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.world.server.URL+Root+"live?"+query, http.NoBody)
	require.NoError(t, err)
	transport := &http.Transport{}
	res, err := (&http.Client{Jar: p.http.Jar, Transport: transport}).Do(req) //nolint:bodyclose // by the stream's close
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	s := &stream{bufio.NewReader(res.Body), func() { _ = res.Body.Close(); transport.CloseIdleConnections() }}
	t.Cleanup(s.close)
	return s
}

// next reads the next update; false at the end.
func (s *stream) next(t *testing.T) (update, bool) {
	t.Helper()
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return update{}, false
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var u update
			require.NoError(t, json.Unmarshal([]byte(data), &u))
			return u, true
		}
	}
}

// until reads updates until one is as wanted.
func (s *stream) until(t *testing.T, what string, ok func(update) bool) update {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); {
		u, more := s.next(t)
		require.True(t, more, "it ended before "+what)
		if ok(u) {
			return u
		}
	}
	require.Fail(t, "not in time: "+what)
	return update{}
}

func TestAWatcherSeesWhatHappensAndWhatIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.signedIn(t, readToken)
	overview, feed, stock := p.watch(t, "view=overview"), p.watch(t, "view=calls"), p.watch(t, "view=stock&q=d")
	first, _ := overview.next(t)
	require.True(t, first.Reset)
	number, _ := vn.ParseE164(w.toAgent)
	for i := range 3 {
		w.bus.Decided(&events.Decision{Carrier: "sim", CallID: fmt.Appendf(nil, "c-%d", i), VN: number, Reason: vn.Connected, Took: time.Millisecond, At: time.Now()})
	}
	overview.until(t, "three calls", func(u update) bool {
		return u.Text["calls.reasons"] == "connected 3" && u.Text["calls.p50"] == "1.00 ms"
	})
	lines := feed.until(t, "a line of the feed", func(u update) bool { return len(u.Feed) > 0 && u.Feed[len(u.Feed)-1].Cells[2] == "c-2" })
	require.Equal(t, w.toAgent, lines.Feed[0].Cells[4])
	rows := stock.until(t, "the pool's stock", func(u update) bool { return u.Text["pool.dc.leased"] == "2" })
	require.Equal(t, "fine", rows.State["pool.dc"])
	require.NotContains(t, rows.Text, "pool.empty.free", "what is not on this page is not sent")

	w.redis.Pause(t)
	overview.until(t, "a word on Redis", func(u update) bool { return len(u.Trouble) == 1 && strings.HasPrefix(u.Trouble[0], "Redis") })
	w.redis.Resume(t)
	overview.until(t, "Redis is there", func(u update) bool { return len(u.Trouble) == 0 })
	w.nats.Stop(t)
	overview.until(t, "a word on NATS", func(u update) bool { return len(u.Trouble) == 1 && strings.HasPrefix(u.Trouble[0], "NATS") })
	w.nats.Start(t)
	overview.until(t, "NATS is there", func(u update) bool { return len(u.Trouble) == 0 })

	for _, q := range []string{"view=nothing", "view=", "view=stock&q=" + strings.Repeat("x", maxFilter+1)} {
		require.Equal(t, http.StatusNotFound, p.get(t, "live?"+q).status, q)
	}
	for _, s := range []*stream{overview, feed, stock} {
		s.close()
	}
	require.Eventually(t, func() bool { return w.hub.watchers() == 0 }, within, tick, "who has gone is forgotten")
}

func TestASlowWatcherIsDroppedAndNobodyWaitsForIt(t *testing.T) {
	t.Parallel()
	h, err := newHub(prometheus.NewRegistry())
	require.NoError(t, err)
	slow, quick := h.join(view{Name: "overview"}), h.join(view{Name: "overview"})
	rendered := 0
	for range behind + 1 {
		h.tell(func(view) []byte { rendered++; return []byte("x") })
		<-quick.updates
	}
	require.Equal(t, behind+1, rendered, "each view is rendered once for all")
	require.Equal(t, 1, h.watchers())
	for range behind {
		_, ok := <-slow.updates
		require.True(t, ok)
	}
	_, ok := <-slow.updates
	require.False(t, ok)
	require.InDelta(t, 1, testutil.ToFloat64(h.dropped), 0)
	h.leave(slow) // it may still do so

	for range mostWatchers - 1 {
		require.NotNil(t, h.join(view{Name: "calls"}))
	}
	require.Nil(t, h.join(view{Name: "calls"}))
	h.close()
	require.Zero(t, h.watchers())
	require.Nil(t, h.join(view{Name: "calls"}))
	_, ok = <-quick.updates
	require.False(t, ok)
}

func TestAHundredThousandCallsAMinuteAreCountedFromASample(t *testing.T) {
	t.Parallel()
	var c counter
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	batch := func(stored uint64) *events.CallBatch {
		b := &events.CallBatch{Stored: stored, Read: tailMost}
		for i := range tailMost {
			reason := vn.Connected
			if i%10 == 0 {
				reason = vn.OrderEnded
			}
			b.Decided = append(b.Decided, events.CallDecided{Reason: reason.String(), TookUS: int64(i + 1)})
		}
		return b
	}
	first := c.take(batch(0), at)
	require.Zero(t, first.PerSecond, "what was there before says nothing")
	require.Len(t, first.Feed, feedMost)
	var k calls
	for i := range 400 {
		k = c.take(batch(1667), at.Add(time.Duration(i+1)*time.Second))
	}
	require.InDelta(t, 1667, k.PerSecond, 0.001)
	require.True(t, k.Sampled)
	require.InDelta(t, 1667*60*0.9, k.Reasons[0].Count, 1)
	require.Equal(t, []time.Duration{50 * time.Microsecond, 95 * time.Microsecond, 99 * time.Microsecond}, []time.Duration{k.P50, k.P95, k.P99})
	require.Equal(t, []int{pointsMost, feedMost}, []int{len(k.Points), len(k.Feed)}, "however many there are")
	require.InDelta(t, 166.7, k.Points[0].Refused, 0.001)
	quiet := c.take(&events.CallBatch{}, at.Add(time.Hour))
	require.Zero(t, quiet.PerSecond)
	require.Empty(t, quiet.Reasons)
}

func TestTenThousandPoolsAreShownAPageAtATime(t *testing.T) {
	t.Parallel()
	all := make([]poolRow, 10_000)
	for i := range all {
		all[i] = poolRow{Name: fmt.Sprintf("pool-%05d", i), levels: levels{Free: 1}, History: (&history{}).with(time.Now(), levels{Free: 1})}
	}
	got := pick(all, "", 200)
	require.Equal(t, []any{"pool-09950", 50, 200, 10_000}, []any{got.Rows[0].Name, len(got.Rows), got.Pages, got.Matching})
	got = pick(all, "pool-0123", 1)
	require.Equal(t, []int{10, 1}, []int{got.Matching, got.Pages})
	require.Equal(t, 200, pick(all, "", 9999).Page)
	require.Equal(t, 1, pick(all, "", -1).Page)
	require.Empty(t, pick(all, "nowhere", 1).Rows)
	c := &Console{now: time.Now}
	s := &snapshot{Pools: all, At: time.Now()}
	require.Less(t, len(c.render(&view{Name: "stock", Page: 3}, s, false)), 20_000, "an update is as large as its page, not as its pools")
}

func TestAPoolsHistoryIsBoundedAndNeverChanges(t *testing.T) {
	t.Parallel()
	h, at := &history{}, time.Unix(0, 0)
	early := h
	for i := range 3 * historyLen {
		if i == 10 {
			early = h
		}
		h = h.with(at.Add(time.Duration(i)*historyEvery), levels{Free: i})
	}
	require.Len(t, h.at, historyLen)
	require.Len(t, early.at, 10)
	require.Equal(t, 9, early.levels[9].Free)
	series := h.series()
	require.Len(t, series, 5)
	require.InDelta(t, 3*historyLen-1, series[1][historyLen-1], 0)
	require.Empty(t, (*history)(nil).series()[0])
}

func TestWordsForWhatIsKnown(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]poolRow{
		"not at this rate": {levels: levels{Free: 1}}, "empty now": {levels: levels{Leased: 1}}, "under a minute": {levels: levels{Free: 1}, RunsOut: time.Second},
		"in 29 min": {levels: levels{Free: 1}, RunsOut: 29 * time.Minute}, "in 3 h": {levels: levels{Free: 1}, RunsOut: 3 * time.Hour},
		"in 2 days": {levels: levels{Free: 1}, RunsOut: 50 * time.Hour},
	} {
		require.Equal(t, want, p.runsOut())
	}
	for r := range vn.Reason(vn.Reasons) {
		require.Equal(t, r != vn.Connected, reasons[r.String()] != "", "every refusal is explained: %s", r)
	}
	s := &snapshot{ClockOff: -3 * time.Second}
	require.Contains(t, s.troubles()[0], "differ by 3s")
	require.Empty(t, (&snapshot{ClockOff: time.Second}).troubles())
}
