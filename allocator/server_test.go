package allocator

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// endless is a body whose length is not known beforehand.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	n := min(len(p), e.left)
	if n == 0 {
		return 0, io.EOF
	}
	for i := range p[:n] {
		p[i] = ' '
	}
	e.left -= n
	return n, nil
}

// call sends a request to a real server, where bodies come in pieces.
func call(t *testing.T, w *world, body io.Reader) int {
	t.Helper()
	server := httptest.NewServer(w.API(token))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL+"/v1/orders/o-1", body)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := server.Client().Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

func TestABodyOfUnknownLengthIsReadUpToTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	require.Equal(t, 413, call(t, w, &endless{left: MaxBody + 1}))
	require.Equal(t, 201, call(t, w, io.MultiReader(strings.NewReader(orderBody), &endless{left: MaxBody - len(orderBody)})))
}

func TestABodyThatNeverEndsIsCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.config.Timeout = 200 * time.Millisecond
	slow, hold := io.Pipe()
	defer func() { require.NoError(t, hold.Close()) }()
	require.Equal(t, 400, call(t, w, slow))
}

// A client that goes away must not leave an order half assigned.
func TestAnOrderIsFinishedThoughItsClientIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPut, "/v1/orders/o-1", strings.NewReader(orderBody))
	r.Header.Set("Authorization", "Bearer "+token)
	answer := httptest.NewRecorder()
	w.API(token).ServeHTTP(answer, r)
	require.Equal(t, 201, answer.Code)
	require.Equal(t, assignSteps, w.trace.take())
}

func TestAColdRedisIsToldApart(t *testing.T) {
	t.Parallel()
	w := coldWorld(t)
	w.bus.seq = 7
	w.look(t.Context())
	c := clientOf(t, w)
	cold := c.send("PUT", "/v1/orders/o-1", orderBody)
	cold.refuses(503, "cold", "")
	require.Equal(t, "30", cold.Header().Get("Retry-After"))
	c.send("POST", numbersPath, `{"numbers":["`+firstVN.E164()+`"],"carrier":"sim"}`).refuses(503, "cold", "")
	require.ErrorIs(t, w.Check(t.Context()), vn.ErrCold)

	early := coldWorld(t)
	c = clientOf(t, early)
	c.send("PUT", "/v1/orders/o-1", orderBody).refuses(503, "unavailable", "")
}
