package testkit

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Operations returns the operations ("GET /path") of an OpenAPI document that have the
// tag, with the statuses of each in order.
func Operations(t testing.TB, document, tag string) map[string][]int {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(document), &doc))
	all := map[string][]int{}
	for path, item := range doc.Paths {
		delete(item, "parameters")
		delete(item, "servers")
		for method, raw := range item {
			var op struct {
				Tags      []string                `json:"tags"`
				Responses map[int]json.RawMessage `json:"responses"`
			}
			require.NoError(t, json.Unmarshal(raw, &op))
			if slices.Contains(op.Tags, tag) {
				all[strings.ToUpper(method)+" "+path] = slices.Sorted(maps.Keys(op.Responses))
			}
		}
	}
	return all
}

// Codes returns the values of the member code in a schema of an OpenAPI document.
func Codes(t testing.TB, document, schema string) []string {
	t.Helper()
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties struct {
					Code struct {
						Enum []string `json:"enum"`
					} `json:"code"`
				} `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	require.NoError(t, json.Unmarshal([]byte(document), &doc))
	return doc.Components.Schemas[schema].Properties.Code.Enum
}
