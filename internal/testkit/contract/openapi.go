// Package contract holds what our programs say against the documents that describe it:
// requests and answers against the OpenAPI document, messages against the schemas of the
// AsyncAPI document. It stands apart from testkit because few tests need its libraries.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/privateapi"
)

// API checks requests and answers against privateapi.OpenAPI. It is safe for
// concurrent use.
type API struct{ router routers.Router }

const ndjson = "application/x-ndjson"

// OpenAPI returns the document, which must be valid OpenAPI 3.1. It is read once.
func OpenAPI(t testing.TB) *API {
	t.Helper()
	a, err := read()
	require.NoError(t, err)
	return a
}

var read = sync.OnceValues(func() (*API, error) {
	data, err := closed([]byte(privateapi.OpenAPI))
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background(), openapi3.EnableExamplesValidation()); err != nil {
		return nil, err
	}
	doc.Servers = nil // tests ask at addresses of their own
	for _, item := range doc.Paths.Map() {
		item.Servers = nil
	}
	router, err := gorillamux.NewRouter(doc)
	return &API{router}, err
})

// Check holds one request and its answer against the document: an answer always, and
// a request when it succeeded, for what is refused may be anything. A path or method
// that the document does not have must be refused.
func (a *API) Check(t testing.TB, sent *http.Request, body string, answer *http.Response, answered []byte) {
	t.Helper()
	route, params, err := a.router.FindRoute(sent)
	if errors.Is(err, routers.ErrMethodNotAllowed) || errors.Is(err, routers.ErrPathNotFound) {
		require.GreaterOrEqual(t, answer.StatusCode, http.StatusBadRequest, "%s %s is served and not described", sent.Method, sent.URL.Path)
		return
	}
	require.NoError(t, err, "%s %s", sent.Method, sent.URL.Path)
	again := sent.Clone(t.Context())
	again.Body = io.NopCloser(bytes.NewReader([]byte(body)))
	request := &openapi3filter.RequestValidationInput{
		Request: again, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, RejectWhenRequestBodyNotSpecified: true, MultiError: true,
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true,
			SchemaValidationOptions: []openapi3.SchemaValidationOption{openapi3.EnableFormatValidation()},
		},
	}
	if answer.StatusCode < http.StatusBadRequest {
		require.NoError(t, openapi3filter.ValidateRequest(t.Context(), request), "%s %s: the request is not as described", sent.Method, sent.URL.Path)
	}
	what := "%s %s %d: the answer is not as described"
	if answer.Header.Get("Content-Type") == ndjson {
		schema := route.Operation.Responses.Status(answer.StatusCode).Value.Content[ndjson].Schema.Value
		for line := range bytes.Lines(answered) {
			var v any
			require.NoError(t, json.Unmarshal(line, &v))
			require.NoError(t, schema.VisitJSON(v, openapi3.EnableJSONSchema2020()), what, sent.Method, sent.URL.Path, answer.StatusCode)
		}
		return
	}
	response := &openapi3filter.ResponseValidationInput{RequestValidationInput: request, Status: answer.StatusCode, Header: answer.Header, Options: request.Options}
	require.NoError(t, openapi3filter.ValidateResponse(t.Context(), response.SetBodyBytes(answered)), what, sent.Method, sent.URL.Path, answer.StatusCode)
}

// closed forbids every object schema of a document what it does not name. The documents
// leave that open, for readers must bear what is added later; we must not add anything
// that is not described.
func closed(document []byte) ([]byte, error) {
	var root any
	if err := json.Unmarshal(document, &root); err != nil {
		return nil, err
	}
	closeObjects(root)
	return json.Marshal(root)
}

func closeObjects(at any) {
	switch v := at.(type) {
	case []any:
		for _, x := range v {
			closeObjects(x)
		}
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok && v["type"] == "object" {
			if _, said := v["additionalProperties"]; !said {
				v["additionalProperties"] = false
			}
		}
		for _, x := range v {
			closeObjects(x)
		}
	}
}
