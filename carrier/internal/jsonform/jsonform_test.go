package jsonform

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestParseReadsWhatIsAskedForAndPassesOverTheRest(t *testing.T) {
	t.Parallel()
	o, err := Parse([]byte(`{"new":{"id":"inner"},"id":"a\"b","seconds":12,"none":null,"list":["id"],"empty":"","yes":true}`),
		"id", "seconds", "none", "list", "empty", "yes", "absent")
	require.NoError(t, err)
	id, err := o.String("id")
	require.NoError(t, err)
	require.Equal(t, `a"b`, id)
	require.Equal(t, "12", o.Optional("seconds"))
	for _, name := range []string{"none", "list", "empty", "yes", "absent", "never asked for"} {
		require.Empty(t, o.Optional(name), name)
		_, err := o.String(name)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, name)
		require.Equal(t, name, field.Field)
	}
	_, err = o.String("seconds")
	require.ErrorContains(t, err, "must be a string")
}

func TestParseTakesOneObjectWithEachFieldOnce(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", " ", "null", "[]", `"id"`, "12", "{", `{"id"`, `{"id":}`, `{"id":"a"`, `{"id":"a"}}`, `{"id":"a"} {}`, `{"id":"a"},`, `{"id":"a",}`,
		`{id:"a"}`, "{\"id\":\"\x01\"}", `{"id":"a","id":"a"}`, `{"id":"a","id":"b"}`, `{"id":"a","\u0069d":"b"}`,
	} {
		_, err := Parse([]byte(body), "id")
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, "%q", body)
	}
	_, err := Parse([]byte(`{"other":1,"other":2,"id":"a"}`), "id")
	require.NoError(t, err, "what is not asked for is not judged")
}

// FuzzParse holds Parse against encoding/json: what it accepts is valid, and says the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"id":"a"}`, `{"id":"\ud800","x":[{}]}`, `{"id":1e3}`, `{"ID":"a"}`, `{}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := Parse(body, "id")
		if err != nil {
			return
		}
		var all map[string]any
		require.NoError(t, json.Unmarshal(body, &all))
		if s, ok := all["id"].(string); ok {
			require.Equal(t, s, o.Optional("id"))
		}
	})
}
