package form

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMediaTypeLooksPastParameters(t *testing.T) {
	t.Parallel()
	const want = "application/x-www-form-urlencoded"
	for header, is := range map[string]bool{
		want: true, want + "; charset=UTF-8": true, "Application/X-WWW-Form-URLencoded ;": true,
		"": false, "application/json": false, want + "x": false, "x=1; " + want: false,
	} {
		require.Equal(t, is, MediaType([]byte(header), want), header)
	}
}
