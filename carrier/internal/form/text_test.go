package form

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestTextMayBeMissingOrEmptyButNotRepeated(t *testing.T) {
	t.Parallel()
	var f Form
	require.True(t, f.Parse([]byte("empty=&bare&good=a%62c&twice=&twice=x")))
	for key, want := range map[string]string{"missing": "", "empty": "", "bare": "", "good": "abc"} {
		p, err := f.Text(key)
		require.NoError(t, err)
		require.Equal(t, want, string(p.Value), key)
	}
	p, err := f.Text("twice")
	var field *vn.FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, vn.FieldError{Field: "twice", Problem: "is given more than once"}, *field)
	require.Empty(t, p.Value)
}
