package app_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
)

// collected are the spans that came, by name: "<trace id> <parent id>".
type collected struct {
	mu    sync.Mutex
	spans map[string]string
	raw   strings.Builder
	whose string // the resource's attributes
}

// ServeHTTP takes spans as an OpenTelemetry collector does.
func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	for _, resource := range request.GetResourceSpans() {
		c.whose = resource.GetResource().String()
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans[s.GetName()] = fmt.Sprintf("%x %x", s.GetTraceId(), s.GetParentSpanId())
			}
		}
	}
}

func (c *collected) span(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans[name]
}

// An order's trace: from the request or the message that asks, by the spans, into the
// headers of what is published. (Not parallel: the environment is the process's.)
func TestATraceFollowsAnOrder(t *testing.T) {
	got := &collected{spans: map[string]string{}}
	server := httptest.NewServer(got)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	t.Setenv("OTEL_SERVICE_NAME", "masked-calls")
	r := start(t, app.Config{Settings: load(t, nil), Role: settings.All, Logger: zerolog.Nop()})
	require.Eventually(t, func() bool {
		_, pools := get(t, "http://"+r.at.Admin+"/v1/pools", r.at.APIToken)
		return strings.Contains(pools, `"free":20`)
	}, patience, tick)
	require.Eventually(t, func() bool { return got.span("fill a pool") != "" }, patience, tick, "the replenisher has acted")

	const put, completed, spanID = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736", "b7ad6b7169203331"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+r.at.Admin+"/v1/orders/o-1", strings.NewReader(
		`{"pool":"demo","parties":[{"role":"customer","number":"+12025550123"},{"role":"agent","number":"+12025550145"}]}`))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+r.at.APIToken)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", "00-"+put+"-"+spanID+"-01")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusCreated, res.StatusCode)
	http.DefaultClient.CloseIdleConnections()

	nc, err := nats.Connect(r.at.NATSURL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	told := &nats.Msg{Subject: "orders.completed", Data: []byte(`{"order_id":"o-1"}`), Header: nats.Header{"traceparent": {"00-" + completed + "-" + spanID + "-01"}}}
	_, err = js.PublishMsg(t.Context(), told)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return got.span("handle orders.completed") != "" }, patience, tick)
	require.Equal(t, put+" "+spanID, got.span("PUT /v1/orders/{id}"))
	require.Equal(t, completed+" "+spanID, got.span("handle orders.completed"))

	header := func(stream, subject string) string {
		s, err := js.Stream(t.Context(), stream)
		require.NoError(t, err)
		msg, err := s.GetLastMsgForSubject(t.Context(), subject)
		require.NoError(t, err)
		return msg.Header.Get("traceparent")
	}
	require.Regexp(t, "^00-"+put+"-[0-9a-f]{16}-01$", header("VN", "vn.assigned"))
	require.NotContains(t, header("VN", "vn.assigned"), spanID, "it names our span, not the caller's")
	require.Regexp(t, "^00-"+completed+"-", header("VN", "vn.released"))
	require.NoError(t, r.stop())
	got.mu.Lock()
	defer got.mu.Unlock()
	require.Contains(t, got.whose, "masked-calls")
	require.Contains(t, got.whose, "callmask.role")
	require.NotContains(t, got.raw.String(), "2025550", "no span holds a number of a person")
}
