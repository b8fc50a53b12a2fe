package form

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func pairs(f *Form) url.Values {
	values := url.Values{}
	for _, p := range f.Params {
		values.Add(string(p.Key), string(p.Value))
	}
	return values
}

func TestParseReadsWhatTheStandardLibraryReads(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "a=1", "a=1&b=2", "a", "a=", "=a", "&&a=1&", "a=b=c", "a=%2B62", "a=+b", "a%20b=c%26d", "%41=%41&A=b", "a=%00", "a=%ff", "a=1&a=2&a=1",
	} {
		var f Form
		require.True(t, f.Parse([]byte(text)), text)
		want, err := url.ParseQuery(text)
		require.NoError(t, err)
		require.Equal(t, want, pairs(&f), text)
	}
}

func TestParseRefusesBrokenText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a=%", "a=%4", "a=%zz", "%=a", "a;b=c", "a=b;c", "a=1&b=%2", strings.Repeat("a&", MaxParams+1)} {
		var f Form
		require.False(t, f.Parse([]byte(text)), text)
	}
}

func TestParseChangesNothingAndForgetsTheTextBefore(t *testing.T) {
	t.Parallel()
	var f Form
	first := []byte("a=%31&b=%32+&c=3")
	require.True(t, f.Parse(first))
	require.Equal(t, "a=%31&b=%32+&c=3", string(first))
	require.True(t, f.Parse([]byte("d=%34")))
	require.Equal(t, url.Values{"d": {"4"}}, pairs(&f))
}

func TestKeepOutlivesTheForm(t *testing.T) {
	t.Parallel()
	var f Form
	require.True(t, f.Parse([]byte("plain=abc&escaped=%61bc")))
	plain, err := f.Get("plain")
	require.NoError(t, err)
	escaped, err := f.Get("escaped")
	require.NoError(t, err)
	kept, copied := plain.Keep(), escaped.Keep()
	require.True(t, f.Parse([]byte("x=%78%78%78%78%78%78%78%78%78")))
	require.Equal(t, "abc", string(kept))
	require.Equal(t, "abc", string(copied))
}

func TestGetNamesTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	var f Form
	require.True(t, f.Parse([]byte("empty=&twice=1&twice=1&good=x&emptytwice=&emptytwice=1")))
	for key, problem := range map[string]string{
		"missing": "is missing", "empty": "is empty", "twice": "is given more than once", "emptytwice": "is given more than once",
	} {
		_, err := f.Get(key)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field)
		require.Equal(t, vn.FieldError{Field: key, Problem: problem}, *field)
	}
	p, err := f.Get("good")
	require.NoError(t, err)
	require.Equal(t, "x", string(p.Value))
	_, found, err := f.Optional("missing")
	require.NoError(t, err)
	require.False(t, found)
}

// FuzzParse holds the parser against net/url: the same pairs, and an error exactly
// where it gives one.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "a=1&b=%2B1", "From=%2B14155550100&To=+1", "a=%zz", "a;b", "=&=&&", "%", "a=%F0%9F%98%80"} {
		f.Add(seed)
	}
	form := new(Form)
	f.Fuzz(func(t *testing.T, text string) {
		want, err := url.ParseQuery(text)
		if strings.Count(text, "&") >= MaxParams {
			return // possibly more pairs than are accepted
		}
		ok := form.Parse([]byte(text))
		if ok != (err == nil) {
			t.Fatalf("accepted %v, net/url says %v", ok, err)
		}
		if ok {
			require.Equal(t, want, pairs(form))
		}
	})
}
