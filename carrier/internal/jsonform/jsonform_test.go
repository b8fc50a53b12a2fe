package jsonform

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
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

// slowly is Parse of one name by nothing but the tokens of encoding/json.
func slowly(body []byte, name string) (value string, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return "", false
	}
	for found := false; dec.More(); {
		key, err := dec.Token()
		if err != nil {
			return "", false
		}
		var given any
		if dec.Decode(&given) != nil || key == name && found {
			return "", false
		}
		if key == name {
			found = true
			switch given := given.(type) {
			case string:
				value = given
			case json.Number:
				value = given.String()
			}
		}
	}
	if _, err := dec.Token(); err != nil {
		return "", false
	}
	_, err := dec.Token()
	return value, errors.Is(err, io.EOF)
}

// FuzzParse holds Parse against encoding/json: it accepts the same, and reads the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"id":"a"}`, `{"id":"\ud800","x":[{}]}`, `{"id":1e3}`, `{"ID":"a"}`, `{}`, " {\t\"id\"\n:\r-1 , \"x\":{\"id\":\"}]\\\\\"}}\n", `{"\u0069d":"\\"}`,
		"{\"id\":\"\xff\"}", `{"x":["\"]",[[]]],"id":true}`, `{"id":"a","id":1}`, `{,"id":1}`, `{"id"::1}`, `{"a":1,,"id":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want, ok := slowly(body, "id")
		o, err := Parse(body, "id")
		require.Equal(t, ok, err == nil, "%v", err)
		if ok {
			require.Equal(t, want, o.Optional("id"))
		}
	})
}
