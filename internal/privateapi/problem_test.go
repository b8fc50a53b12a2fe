package privateapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestAProblemIsWrittenWithAllThatItsReaderNeeds(t *testing.T) {
	t.Parallel()
	log, busy := zerolog.Nop(), errors.New("busy")
	known := Known{{busy, http.StatusConflict, "busy", 60}}

	p := known.Problem(fmt.Errorf("asked: %w", busy))
	p.Field = "pool"
	w := httptest.NewRecorder()
	Refuse(w, &log, &struct {
		Problem

		Diff []int `json:"diff"`
	}{p, []int{1}})
	require.Equal(t, http.StatusConflict, w.Code)
	require.Equal(t, http.Header{
		"Content-Type": {"application/problem+json"}, "Content-Length": {"90"}, "X-Content-Type-Options": {"nosniff"}, "Retry-After": {"60"},
	}, w.Header())
	require.Equal(t, `{"title":"Conflict","status":409,"detail":"busy","code":"busy","field":"pool","diff":[1]}`+"\n", w.Body.String())

	p = Common.Problem(ErrMethod)
	w = httptest.NewRecorder()
	Refuse(w, &log, &p)
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.NotContains(t, w.Header(), "Retry-After")
	require.NotContains(t, w.Body.String(), "field")

	p = known.Problem(errors.New("about +12025550123"))
	require.Equal(t, []any{http.StatusInternalServerError, "internal", ""}, []any{p.Status, p.Code, p.Field})
	require.NotContains(t, p.Detail, "555")
	p = known.Problem(&vn.FieldError{Field: "ttl", Problem: "is missing"})
	require.Equal(t, []any{http.StatusBadRequest, "invalid", "ttl"}, []any{p.Status, p.Code, p.Field})
	p = known.Problem(&vn.FieldError{Field: "ttl", Problem: "is not allowed", Forbidden: true})
	require.Equal(t, []any{http.StatusUnprocessableEntity, "forbidden", "ttl"}, []any{p.Status, p.Code, p.Field})
}

func TestAnAnswerThatCannotBeEncodedIsAFaultOfOurs(t *testing.T) {
	t.Parallel()
	log, w := zerolog.Nop(), httptest.NewRecorder()
	Answer(w, &log, http.StatusOK, func() {})
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Empty(t, w.Body.String())
}
