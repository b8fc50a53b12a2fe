package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/vn"
)

// answer is what an HTTP request got.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) decode(t *testing.T, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(a.body), into), a.body)
}

// try sends a request; the error says that there was no whole answer.
func (p *process) try(t *testing.T, method, target string, header http.Header, body io.Reader) (answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		return answer{}, err
	}
	if header != nil {
		req.Header = header
	}
	resp, err := p.web.Do(req)
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return answer{}, u.Err // without the URL, which holds numbers
	}
	if err != nil {
		return answer{}, err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // all of it has been read
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

func (p *process) do(t *testing.T, method, target string, header http.Header, body io.Reader) answer {
	t.Helper()
	a, err := p.try(t, method, target, header, body)
	require.NoError(t, err)
	return a
}

// api asks the private API with the API token.
func (p *process) api(t *testing.T, method, path, body string) answer {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + p.Token}}
	return p.do(t, method, "http://"+p.Admin+path, header, strings.NewReader(body))
}

// party is one side of an order as the outside names it.
type party struct {
	Role   string `json:"role"`
	Number string `json:"number"`
}

// order is the body of PUT /v1/orders/{id}, and with OrderID that of orders.assigned.
type order struct {
	OrderID string  `json:"order_id,omitempty"`
	Pool    string  `json:"pool"`
	TTL     string  `json:"ttl,omitempty"`
	Parties []party `json:"parties"`
}

// assigned is vn.assigned, and the API's answer about a live order.
type assigned struct {
	OrderID   string    `json:"order_id"`
	Pool      string    `json:"pool"`
	State     string    `json:"state"`
	Reason    string    `json:"reason"`
	ExpiresAt time.Time `json:"expires_at"`
	Parties   []struct {
		Role string `json:"role"`
		VN   string `json:"vn"`
	} `json:"parties"`
}

// vn returns the VN of a role.
func (a assigned) vn(t *testing.T, role string) string {
	t.Helper()
	for _, p := range a.Parties {
		if p.Role == role {
			return p.VN
		}
	}
	t.Fatalf("order %s has no %s", a.OrderID, role)
	return ""
}

func (p *process) getOrder(t *testing.T, id string) assigned {
	t.Helper()
	got := p.api(t, http.MethodGet, "/v1/orders/"+id, "")
	require.Equal(t, http.StatusOK, got.status, got.body)
	var o assigned
	got.decode(t, &o)
	return o
}

// stock is a row of GET /v1/pools.
type stock struct {
	Name     string `json:"name"`
	Free     int    `json:"free"`
	Leased   int    `json:"leased"`
	Cooling  int    `json:"cooling"`
	Draining int    `json:"draining"`
	Total    int    `json:"total"`
}

func (p *process) pools(t *testing.T) map[string]stock {
	t.Helper()
	got := p.api(t, http.MethodGet, "/v1/pools", "")
	require.Equal(t, http.StatusOK, got.status, got.body)
	var rows []stock
	got.decode(t, &rows)
	pools := make(map[string]stock, len(rows))
	for _, r := range rows {
		pools[r.Name] = r
	}
	return pools
}

// importNumbers brings numbers into a pool that has none of them. An answer that it
// could not be done in time means to do it again.
func (p *process) importNumbers(t *testing.T, pool, carrier string, numbers []string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"numbers": numbers, "carrier": carrier})
	require.NoError(t, err)
	var got answer
	await(t, startLimit, "the numbers are imported", func() bool {
		got = p.api(t, http.MethodPost, "/v1/pools/"+pool+"/numbers", string(body))
		return got.status != http.StatusServiceUnavailable
	})
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Equal(t, len(numbers), p.pools(t)[pool].Total)
}

// resolved is the answer of /v1/resolve.
type resolved struct {
	Action      string `json:"action"`
	Destination string `json:"destination"`
	CallerID    string `json:"caller_id"`
	OrderID     string `json:"order_id"`
	Reason      string `json:"reason"`
	SIPCode     int    `json:"sip_code"`
	SIPReason   string `json:"sip_reason"`
}

// calls numbers the calls that are asked about: one id is one call.
var calls atomic.Uint64

func (p *process) tryResolve(t *testing.T, token, called, calling string) (answer, error) {
	t.Helper()
	query := url.Values{"called": {called}, "calling": {calling}, "call_id": {"R-" + strconv.FormatUint(calls.Add(1), 10)}}
	return p.try(t, http.MethodGet, "http://"+p.HTTP+"/v1/resolve?"+query.Encode(), http.Header{"Authorization": {"Bearer " + token}}, nil)
}

func (p *process) resolve(t *testing.T, token, called, calling string) resolved {
	t.Helper()
	got, err := p.tryResolve(t, token, called, calling)
	require.NoError(t, err)
	var r resolved
	got.decode(t, &r)
	return r
}

// requireConnected fails unless a call of calling to called reaches destination and
// shows callerID.
func (p *process) requireConnected(t *testing.T, called, calling, destination, callerID string) {
	t.Helper()
	r := p.resolve(t, p.Token, called, calling)
	require.Equal(t, [3]string{"connect", destination, callerID}, [3]string{r.Action, r.Destination, r.CallerID}, r.Reason)
}

// The account of the carrier of kind twilio.
const (
	twilioSID    = "AC00000000000000000000000000000e2e"
	twilioToken  = "auth-token-of-the-tests"
	twilioPublic = "https://calls.example.com"
)

// twilioCall sends the webhook of a call as Twilio does; edit may spoil it before it
// is sent.
func (p *process) twilioCall(t *testing.T, carrier, callID, from, to string, edit ...func(*http.Header, *url.Values)) answer {
	t.Helper()
	got, err := p.tryTwilio(t, carrier, callID, from, to, edit...)
	require.NoError(t, err)
	return got
}

func (p *process) tryTwilio(t *testing.T, carrier, callID, from, to string, edit ...func(*http.Header, *url.Values)) (answer, error) {
	t.Helper()
	form := url.Values{
		"AccountSid": {twilioSID}, "ApiVersion": {"2010-04-01"}, "CallSid": {callID}, "CallStatus": {"ringing"},
		"Direction": {"inbound"}, "From": {from}, "To": {to}, "Caller": {from}, "Called": {to},
	}
	path := "/v1/carriers/" + carrier + "/voice"
	header := http.Header{
		"Content-Type":       {"application/x-www-form-urlencoded; charset=UTF-8"},
		"X-Twilio-Signature": {sim.SignTwilio(twilioToken, twilioPublic+path, form)},
	}
	for _, e := range edit {
		e(&header, &form)
	}
	return p.try(t, http.MethodPost, "http://"+p.HTTP+path, header, strings.NewReader(form.Encode()))
}

// tellTwilio sends what became of a call that was put through, as Twilio does when the
// connection has ended.
func (p *process) tellTwilio(t *testing.T, carrier, callID, order, status string) {
	t.Helper()
	form := url.Values{
		"AccountSid": {twilioSID}, "ApiVersion": {"2010-04-01"}, "CallSid": {callID}, "CallStatus": {"in-progress"},
		"Direction": {"inbound"}, "DialCallStatus": {status}, "DialCallDuration": {"7"},
	}
	path := "/v1/carriers/" + carrier + "/status?order_id=" + order
	got, err := p.try(t, http.MethodPost, "http://"+p.HTTP+path, http.Header{
		"Content-Type":       {"application/x-www-form-urlencoded; charset=UTF-8"},
		"X-Twilio-Signature": {sim.SignTwilio(twilioToken, twilioPublic+path, form)},
	}, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.body, "<Hangup/>")
}

// dial is the TwiML that puts a call through.
func dial(order, callerID, number string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><Response><Dial callerId="` + callerID +
		`" answerOnBridge="true" timeout="30" timeLimit="3600" action="` + twilioPublic + `/v1/carriers/tw/status?order_id=` + order +
		`" method="POST"><Number>` + number + `</Number></Dial></Response>`
}

// reject is the TwiML of every refusal.
const reject = `<?xml version="1.0" encoding="UTF-8"?><Response><Reject reason="rejected"/></Response>`

// marketplace is an application: a plain NATS client that publishes orders and listens.
type marketplace struct {
	conn *nats.Conn

	mu    sync.Mutex
	heard []*nats.Msg
}

// connect subscribes to the given subjects.
func connect(t *testing.T, addr string, subjects ...string) *marketplace {
	t.Helper()
	conn, err := nats.Connect("nats://"+addr, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	a := &marketplace{conn: conn}
	for _, s := range subjects {
		_, err := conn.Subscribe(s, func(m *nats.Msg) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.heard = append(a.heard, m)
		})
		require.NoError(t, err)
	}
	require.NoError(t, conn.FlushTimeout(10*time.Second))
	return a
}

func (a *marketplace) publish(t *testing.T, subject string, payload any) {
	t.Helper()
	var buf bytes.Buffer
	switch p := payload.(type) {
	case string:
		buf.WriteString(p)
	default:
		require.NoError(t, json.NewEncoder(&buf).Encode(p))
	}
	require.NoError(t, a.conn.Publish(subject, buf.Bytes()))
	require.NoError(t, a.conn.FlushTimeout(10*time.Second))
}

// messages returns what was heard on a subject so far.
func (a *marketplace) messages(subject string) []*nats.Msg {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*nats.Msg
	for _, m := range a.heard {
		if m.Subject == subject {
			list = append(list, m)
		}
	}
	return list
}

// hear waits for the message on subject whose payload has all the given members, and
// returns the payload.
func (a *marketplace) hear(t *testing.T, limit time.Duration, subject string, members map[string]string) []byte {
	t.Helper()
	var found []byte
	await(t, limit, fmt.Sprintf("%s with %v", subject, members), func() bool {
		for _, m := range a.messages(subject) {
			var got map[string]any
			if json.Unmarshal(m.Data, &got) != nil {
				continue
			}
			same := true
			for k, v := range members {
				same = same && got[k] == v
			}
			if same {
				found = m.Data
				return true
			}
		}
		return false
	})
	return found
}

// readStream hands over every message that a stream holds now, once it holds at least
// so many.
func readStream(t *testing.T, addr, stream string, least uint64, each func(subject string, data []byte)) {
	t.Helper()
	conn, err := nats.Connect("nats://" + addr)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var s jetstream.Stream
	await(t, 20*time.Second, fmt.Sprintf("stream %s holds %d messages", stream, least), func() bool {
		s, err = js.Stream(ctx, stream)
		require.NoError(t, err)
		return s.CachedInfo().State.Msgs >= least
	})
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	messages, err := consumer.Messages()
	require.NoError(t, err)
	defer messages.Stop()
	for range s.CachedInfo().State.Msgs {
		m, err := messages.Next(jetstream.NextContext(ctx))
		require.NoError(t, err)
		each(m.Subject(), m.Data())
	}
}

// number reads a number that the test itself wrote.
func number(t *testing.T, s string) vn.Number {
	t.Helper()
	n, ok := vn.ParseE164(s)
	require.True(t, ok)
	return n
}

// fictional returns n numbers that are set aside for fiction, 555-0100 to 555-0199 of
// area codes of the USA, skipping those of the first areas.
func fictional(t *testing.T, skipAreas, n int) []string {
	t.Helper()
	prefixes := sim.DefaultStock()[0].Prefixes[skipAreas:]
	require.LessOrEqual(t, n, 100*len(prefixes))
	numbers := make([]string, n)
	for i := range numbers {
		numbers[i] = fmt.Sprintf("%s%02d", prefixes[i/100], i%100)
	}
	return numbers
}
