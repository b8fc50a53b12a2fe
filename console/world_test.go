package console

import (
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/explain"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	token     = "api-token-0123456789"
	readToken = "read-token-0123456789"
	within    = 20 * time.Second
	tick      = 10 * time.Millisecond
)

// orders is an allocator that ends and removes by the store alone.
type orders struct{ store *scripts.Store }

func (o orders) End(ctx context.Context, id string, reason vn.EndReason) error {
	if reason != vn.Completed && reason != vn.Cancelled {
		return &vn.FieldError{Field: "reason", Problem: "must be completed or cancelled"}
	}
	_, err := o.store.Release(ctx, id, reason)
	return err
}

func (o orders) Remove(ctx context.Context, pool, number string) (bool, error) {
	n, ok := vn.ParseE164(number)
	if !ok {
		return false, errors.New("not a number")
	}
	d, err := o.store.Drain(ctx, pool, n)
	return d.Left, err
}

// world is a Console on a real Redis and JetStream, served over HTTP.
type world struct {
	*Console

	store   *scripts.Store
	bus     *events.Bus
	redis   *testkit.RedisServer
	nats    *testkit.NATSServer
	server  *httptest.Server
	toAgent string // of order o-1
}

func newWorld(t *testing.T, change ...func(*Config, *Deps)) *world {
	t.Helper()
	w := &world{redis: testkit.Redis(t), nats: testkit.NATS(t)}
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	w.store, err = scripts.New(scripts.Config{Timeout: 2 * time.Second}, w.redis.Client(t), keys)
	require.NoError(t, err)
	require.NoError(t, w.store.Start(t.Context()))
	require.NoError(t, w.store.MarkReady(t.Context()))
	w.bus, err = events.Connect(t.Context(), events.Config{URL: w.nats.URL, Logger: zerolog.Nop(), Timeout: 2 * time.Second})
	require.NoError(t, err)
	t.Cleanup(w.bus.Close)
	require.NoError(t, w.bus.EnsureStreams(t.Context()))
	_, err = w.store.Refill(t.Context(), "dc", "sim", []scripts.Owned{{VN: 12025550160, Ref: "1"}, {VN: 12025550161, Ref: "2"}, {VN: 12025550162, Ref: "3"}})
	require.NoError(t, err)
	w.assign(t, "o-1")
	cfg := Config{
		Token: token, ReadToken: readToken, Role: "test", Pools: []string{"dc", "empty"}, Carriers: []string{"sim", "pbx"}, Sellers: []string{"sim"},
		CallsRecorded: true,
	}
	deps := Deps{
		Store: w.store, Bus: w.bus, Orders: orders{w.store},
		Explainer: explain.New(explain.Config{Regions: map[string]string{"dc": "US"}, Carriers: map[string]byte{"sim": 7, "pbx": 8}}, w.store, w.bus),
	}
	for _, c := range change {
		c(&cfg, &deps)
	}
	w.Console, err = New(cfg, deps, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { require.NoError(t, w.Run(ctx)) })
	w.server = httptest.NewServer(w.Console)
	t.Cleanup(func() {
		cancel()
		running.Wait()
		w.server.Close()
	})
	return w
}

func (w *world) assign(t *testing.T, id string) {
	t.Helper()
	a, err := w.store.Allocate(t.Context(), scripts.AllocateRequest{
		Order:    vn.Order{ID: id, Pool: "dc", TTL: time.Hour, Parties: []vn.Party{{Role: "customer", Number: 12025550101}, {Role: "agent", Number: 12025550102}}},
		Cooldown: time.Minute, Carriers: []scripts.Carrier{{Name: "sim", ID: 7}},
	})
	require.NoError(t, err)
	w.toAgent = a.Numbers[1].VN.E164()
}

// person is somebody with a browser that keeps cookies and follows redirects.
type person struct {
	world *world
	http  *http.Client
}

func (w *world) person(t *testing.T) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &person{w, &http.Client{Jar: jar, Transport: transport, Timeout: within}}
}

// signedIn returns somebody who has signed in with a token.
func (w *world) signedIn(t *testing.T, secret string) *person {
	t.Helper()
	p := w.person(t)
	got := p.post(t, "sign-in", "name", "Ana", "secret", secret)
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Contains(t, got.body, "Overview")
	return p
}

// got is an answer.
type got struct {
	status int
	header http.Header
	body   string
	path   string // where redirects led
}

func (p *person) do(t *testing.T, method, path, body string, header http.Header) got {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.world.server.URL+Root+path, strings.NewReader(body))
	require.NoError(t, err)
	for name, values := range header {
		req.Header[name] = values
	}
	if method == http.MethodPost && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := p.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return got{res.StatusCode, res.Header, string(b), res.Request.URL.RequestURI()}
}

func (p *person) get(t *testing.T, path string) got {
	t.Helper()
	return p.do(t, http.MethodGet, path, "", nil)
}

func (p *person) post(t *testing.T, path string, pairs ...string) got {
	t.Helper()
	return p.do(t, http.MethodPost, path, query(pairs...), nil)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`)

// form returns the hidden fields of a page's last form.
func (p *person) form(t *testing.T, path string) url.Values {
	t.Helper()
	page := p.get(t, path)
	require.Equal(t, http.StatusOK, page.status, page.body)
	values := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page.body, -1) {
		values.Set(m[1], html.UnescapeString(m[2]))
	}
	require.NotEmpty(t, values.Get("token"))
	return values
}

// act sends a form that was confirmed.
func (p *person) act(t *testing.T, form url.Values, pairs ...string) got {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return p.do(t, http.MethodPost, "act", form.Encode(), nil)
}

func (w *world) trail(t *testing.T) (list []string) {
	t.Helper()
	entries, err := w.bus.AuditTrail(t.Context(), 100)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Action+" "+e.Target+" "+e.Outcome+" by "+e.Who)
	}
	return list
}
