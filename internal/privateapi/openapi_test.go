package privateapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheOpenAPIDocumentHoldsTogether(t *testing.T) {
	t.Parallel()
	var root map[string]any
	require.NoError(t, json.Unmarshal([]byte(OpenAPI), &root))
	require.Equal(t, "3.1.0", root["openapi"])
	followRefs(t, root, root)
	for path, item := range root["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			if method != "parameters" && method != "servers" {
				tags := operation.(map[string]any)["tags"]
				require.Contains(t, []any{[]any{"allocator"}, []any{"replenisher"}, []any{"router"}, []any{"process"}, []any{"explain"}}, tags, "%s %s belongs to one role", method, path)
			}
		}
	}
}

func followRefs(t *testing.T, root, at any) {
	t.Helper()
	switch v := at.(type) {
	case []any:
		for _, x := range v {
			followRefs(t, root, x)
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			target := root
			for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
				m, ok := target.(map[string]any)
				require.True(t, ok, ref)
				target = m[name]
			}
			require.NotNil(t, target, ref)
		}
		for _, x := range v {
			followRefs(t, root, x)
		}
	}
}
