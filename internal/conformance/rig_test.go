package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/router"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

const (
	// name is that of the carrier under test; another owns numbers too.
	name    = "phone-company"
	another = "another"
	// public is what the carrier believes to call. The requests go somewhere else, so a
	// codec that goes by the Host header fails.
	public = "https://calls.example.com"
	// patience is how long anything may take on a loaded machine.
	patience = 10 * time.Second
	// promptly is the shortest time that a carrier waits for an answer.
	promptly = 2 * time.Second
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"), // one per process, for ever
	)
}

// rig is a router with the codec of one carrier, on a Redis with orders.
type rig struct {
	entry

	phone   phone
	carrier settings.Carrier
	server  *testkit.RedisServer
	redis   *redis.Client // looks at what is in Redis
	keys    *seal.Keyset
	told    *told
	logs    *safeBuffer
	http    *http.Client
	base    string // the router's address, http://127.0.0.1:port

	customer, agent, stranger vn.Number
	unassigned                vn.Number // one of no pool

	live    order
	ended   order
	foreign order // its VNs are another carrier's
}

// order is an order of customer and agent: each has a VN, which the other dials.
type order struct {
	id                  string
	ofCustomer, ofAgent vn.Number
}

// newRig starts Redis and the router, and places the orders.
func newRig(t *testing.T, e entry) *rig {
	t.Helper()
	r := &rig{
		entry: e, phone: e.phone(), server: testkit.Redis(t), told: &told{}, logs: &safeBuffer{},
		http: &http.Client{
			Transport:     &http.Transport{DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       patience,
		},
		customer: 12025550101, agent: 12025550102, stranger: 12025550103, unassigned: 442079460099,
	}
	vns := vn.Number(442079460011)
	if e.india {
		r.customer, r.agent, r.stranger, r.unassigned = 915555510001, 915555510002, 915555510003, 918055550099
		vns = 918055550011
	}
	t.Cleanup(r.http.CloseIdleConnections)
	r.redis = r.server.Client(t)
	r.carrier = r.configured(t)
	var err error
	r.keys, err = seal.Create(filepath.Join(t.TempDir(), "keyset"))
	require.NoError(t, err)
	store := r.store(t, patience)
	require.NoError(t, store.Start(t.Context()))
	require.NoError(t, store.MarkReady(t.Context()))
	r.live = r.place(t, store, "order-live", name, r.carrier.ID, vns)
	r.ended = r.place(t, store, "order-ended", name, r.carrier.ID, vns+2)
	r.foreign = r.place(t, store, "order-foreign", another, r.carrier.ID+1, vns+4)
	_, err = store.Release(t.Context(), r.ended.id, vn.Completed)
	require.NoError(t, err)
	r.base = r.serve(t, patience, -1)
	return r
}

// configured reads a settings file with the carrier, as callmask does.
func (r *rig) configured(t *testing.T) settings.Carrier {
	t.Helper()
	lines := []string{"carriers:", "  - name: " + name, "    id: 9"}
	for _, line := range append(r.phone.settings(public), "kind: "+string(r.kind)) {
		lines = append(lines, "    "+line)
	}
	path := filepath.Join(t.TempDir(), "callmask.yaml")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	set, err := settings.Load(settings.Input{
		Flags: map[string]string{"config": path}, Env: func(string) (string, bool) { return "", false },
	})
	require.NoError(t, err)
	return set.Carriers[0]
}

// store returns a Store as the router has it, with connections of its own; what it asks
// Redis may take the given time.
func (r *rig) store(t *testing.T, timeout time.Duration) *scripts.Store {
	t.Helper()
	client, err := app.NewRedis(settings.RedisAt{URL: r.server.URL()}, timeout, 16)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	reader, err := router.NewCoalescer(client, router.CoalescerConfig{FlushTimeout: timeout * 2 / 5}, prometheus.NewRegistry())
	require.NoError(t, err)
	store, err := scripts.New(scripts.Config{Timeout: timeout, Reader: reader}, client, r.keys)
	require.NoError(t, err)
	return store
}

// place gives an order the two VNs that begin with first.
func (r *rig) place(t *testing.T, store *scripts.Store, id, carrier string, carrierID byte, first vn.Number) order {
	t.Helper()
	_, err := store.Refill(t.Context(), "pool", carrier, []scripts.Owned{{VN: first, Ref: "a", Fence: 1}, {VN: first + 1, Ref: "b", Fence: 2}})
	require.NoError(t, err)
	got, err := store.Allocate(t.Context(), scripts.AllocateRequest{
		Order: vn.Order{ID: id, Pool: "pool", TTL: time.Hour, Parties: []vn.Party{
			{Role: "customer", Number: r.customer}, {Role: "agent", Number: r.agent},
		}},
		Cooldown: time.Minute, Carriers: []scripts.Carrier{{Name: carrier, ID: carrierID}},
	})
	require.NoError(t, err)
	return order{id: id, ofCustomer: got.Assignment.Parties[0].VN, ofAgent: got.Assignment.Parties[1].VN}
}

// serve starts a router on the rig's Redis and returns its address. A decision may take
// budget; refusals is how many a caller has in a minute.
func (r *rig) serve(t *testing.T, budget time.Duration, refusals int) string {
	t.Helper()
	codec, err := r.carrier.Codec()
	require.NoError(t, err)
	served := router.Carrier{Name: name, ID: r.carrier.ID, Codec: codec}
	cfg := router.Config{Addr: "127.0.0.1:0", Budget: budget, RefusalsPerMinute: refusals, MessagesPerMinute: -1}
	if r.resolver {
		cfg.Resolvers = []router.Carrier{served}
	} else {
		cfg.Carriers = []router.Carrier{served}
	}
	rt, err := router.New(cfg, r.store(t, budget), r.told, prometheus.NewRegistry(), zerolog.New(r.logs))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		r.http.CloseIdleConnections()
		require.NoError(t, <-done)
	})
	select {
	case <-rt.Listening():
	case <-time.After(patience):
		require.Fail(t, "the router does not listen")
	}
	return "http://" + rt.Addr().String()
}

// at returns the rig with another router's address.
func (r *rig) at(base string) *rig {
	other := *r
	other.base = base
	return &other
}

// path is the webhook's for voice, sms or status.
func path(verb string) string { return "/v1/carriers/" + name + "/" + verb }

// ringing announces a call signed now by the first key.
func (r *rig) ringing(calling, called string) ringing {
	return ringing{
		to: r.base, public: public, path: path("voice"), at: time.Now(), id: fmt.Sprintf("%032x", r.told.next()),
		calling: calling, called: called,
	}
}

// good announces a call that is put through: the customer's to the agent.
func (r *rig) good() ringing { return r.ringing(r.customer.E164(), r.live.ofAgent.E164()) }

// answer is what the router said.
type answer struct {
	status      int
	contentType string
	body        string
	header      http.Header
	took        time.Duration
}

// same tells whether the carrier cannot tell two answers apart.
func (a *answer) same(b *answer) bool {
	return a.status == b.status && a.contentType == b.contentType && a.body == b.body
}

// String prints an answer with its numbers hidden.
func (a *answer) String() string {
	return scrub(strconv.Itoa(a.status) + " " + a.contentType + " " + a.body)
}

// send makes the request. It can be sent again.
func (r *rig) send(t *testing.T, req *http.Request) answer {
	t.Helper()
	body := []byte{}
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		require.NoError(t, err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	sent := req.Clone(t.Context())
	sent.Body, sent.ContentLength, sent.GetBody = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	if len(body) == 0 {
		sent.Body = http.NoBody
	}
	began := time.Now()
	res, err := r.http.Do(sent)
	requireNone(t, err)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	requireNone(t, err)
	return answer{res.StatusCode, res.Header.Get("Content-Type"), string(got), res.Header, time.Since(began)}
}

// call announces a call and reads the answer as the carrier does.
func (r *rig) call(t *testing.T, c ringing) (outcome, answer) {
	t.Helper()
	a := r.send(t, r.phone.ring(c))
	return r.heard(t, &a), a
}

func (r *rig) heard(t *testing.T, a *answer) outcome {
	t.Helper()
	o, err := r.phone.heard(a.status, a.contentType, []byte(a.body))
	requireNone(t, err)
	made := 0
	for _, is := range []bool{o.connect, o.refused, o.fallback} {
		if is {
			made++
		}
	}
	require.Equal(t, 1, made, "the carrier does exactly one thing upon %s", a)
	return o
}

// requireNone fails for an error without showing a number that it may hold.
func requireNone(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		require.Fail(t, scrub(err.Error()))
	}
}

var digits = regexp.MustCompile(`[0-9]{6,}`)

// scrub hides what may be a number.
func scrub(s string) string { return digits.ReplaceAllString(s, "•••") }

// requireNumber compares numbers without showing them.
func requireNumber(t *testing.T, want vn.Number, got, what string) {
	t.Helper()
	n, ok := vn.ParseE164(got)
	require.True(t, ok, "%s is no number with plus sign and country code", what)
	require.True(t, n == want, "%s is %s instead of %s", what, n, want)
}

// times counts how often a number's subscriber part stands in a text, however the country
// code is written.
func times(text string, n vn.Number) int { return strings.Count(text, n.Digits()[2:]) }

// state returns all that Redis holds.
func (r *rig) state(t *testing.T) map[string]string {
	t.Helper()
	keys, err := r.redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	held := map[string]string{}
	for _, key := range keys {
		held[key], err = r.redis.Dump(t.Context(), key).Result()
		require.NoError(t, err)
	}
	return held
}

// reads counts the commands that routers have sent to Redis.
func (r *rig) reads(t *testing.T) int {
	t.Helper()
	info, err := r.redis.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	sum := 0
	for line := range strings.Lines(info) {
		command, rest, ok := strings.Cut(line, ":calls=")
		if !ok || (command != "cmdstat_hget" && command != "cmdstat_hrandfield") {
			continue
		}
		calls, _, _ := strings.Cut(rest, ",")
		n, err := strconv.Atoi(calls)
		require.NoError(t, err)
		sum += n
	}
	return sum
}

// told is a Recorder that keeps what it was told.
type told struct {
	mu       sync.Mutex
	ids      uint64
	calls    []toldCall
	messages []toldMessage
	progress []vn.Progress
}

type toldCall struct {
	id, order string
	reason    vn.Reason
}

type toldMessage struct {
	id, order string
	verdict   vn.Verdict
}

// next returns a number that no other call has.
func (r *told) next() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids++
	return r.ids
}

func (r *told) Record(carrier string, call *vn.Call, d *vn.Decision, _ time.Duration) {
	r.keep(carrier, func() { r.calls = append(r.calls, toldCall{string(call.ID), string(d.OrderID), d.Reason}) })
}

func (r *told) Message(carrier string, m *vn.Message, d *vn.Decision, v vn.Verdict) {
	r.keep(carrier, func() { r.messages = append(r.messages, toldMessage{string(m.ID), string(d.OrderID), v}) })
}

func (r *told) Progress(carrier string, p *vn.Progress) {
	kept := *p
	kept.CallID, kept.OrderID, kept.Cause = bytes.Clone(p.CallID), bytes.Clone(p.OrderID), bytes.Clone(p.Cause)
	r.keep(carrier, func() { r.progress = append(r.progress, kept) })
}

func (r *told) keep(carrier string, add func()) {
	if carrier != name {
		return // and missed where it should be
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	add()
}

// taken is what was told since the last time.
type taken struct {
	calls    []toldCall
	messages []toldMessage
	progress []vn.Progress
}

// take returns what was told and forgets it. The recorder is told before the answer is
// sent, so what belongs to an answer is there.
func (r *told) take() taken {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := taken{r.calls, r.messages, r.progress}
	r.calls, r.messages, r.progress = nil, nil, nil
	return all
}

// safeBuffer takes log lines from several goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
