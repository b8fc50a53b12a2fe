package callback

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/vn"
)

const status = "https://calls.example.com/v1/carriers/x/status"

func parse(t *testing.T, s string) URL {
	t.Helper()
	u, err := Parse(s)
	require.NoError(t, err)
	return u
}

func TestTheOrderComesBackFromTheURL(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"o", "order-1", "A.b_c:d-9", strings.Repeat("x", 64)} {
		var got string
		require.NoError(t, json.Unmarshal(parse(t, status).AppendJSON(nil, []byte(order)), &got))
		require.Equal(t, status+"?order_id="+order, got)
		u, err := url.Parse(got)
		require.NoError(t, err)
		var f form.Form
		require.True(t, f.Parse([]byte(u.RawQuery)))
		back, err := Order(&f)
		require.NoError(t, err)
		require.Equal(t, order, string(back))
	}
}

func TestWhatIsNoOrderIDIsLeftOut(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"", ".", "a b", `a","x":"`, "a&b=c", "a%20", strings.Repeat("x", 65), "\xff"} {
		require.Equal(t, `"`+status+`"`, string(parse(t, status).AppendJSON(nil, []byte(order))))
	}
}

func TestAnOddAddressStaysOneJSONString(t *testing.T) {
	t.Parallel()
	const odd = `https://calls.example.com/a"b\c`
	var got string
	require.NoError(t, json.Unmarshal(parse(t, odd).AppendJSON(nil, []byte("o")), &got))
	require.Equal(t, odd+"?order_id=o", got)
}

func TestAWrongAddressIsNamed(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"calls.example.com", "ftp://h/x", "https://", status + "?a=b", status + "?", status + "#x", "https://u:p@h/x", "https://h/\n"} {
		_, err := Parse(wrong)
		var field *vn.FieldError
		require.ErrorAs(t, err, &field, wrong)
		require.Equal(t, "public_url", field.Field)
	}
	require.True(t, parse(t, "").None())
	require.False(t, parse(t, status).None())
}

func TestAWrongOrderIDIsNamedAndItsValueIsNot(t *testing.T) {
	t.Parallel()
	for query, problem := range map[string]string{
		"order_id=": "is empty", "order_id=a&order_id=a": "is given more than once", "order_id=%2B12025550100x+": "may hold only A-Z a-z 0-9 . _ : -",
		"order_id=" + strings.Repeat("x", 65): "is longer than 64 characters",
	} {
		var f form.Form
		require.True(t, f.Parse([]byte(query)))
		_, err := Order(&f)
		require.EqualError(t, err, "order_id "+problem)
	}
	var f form.Form
	require.True(t, f.Parse([]byte("a=b")))
	back, err := Order(&f)
	require.NoError(t, err)
	require.Nil(t, back)
}
