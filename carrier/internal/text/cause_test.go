package text

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACauseIsAShortWordWithoutATelephoneNumber(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"NORMAL_CLEARING": "NORMAL_CLEARING", "486": "486", "Q.850;cause=16": "Q.850;cause=16", "a b": "a b", strings.Repeat("x", 64): strings.Repeat("x", 64),
		"": "", strings.Repeat("x", 65): "", "a\nb": "", "é": "", "+12025550100": "", "to 2025550100 failed": "", "1-2-3-4-5-6-7": "", "123456": "123456",
	} {
		require.Equal(t, want, string(Cause(s)), "%q", s)
	}
}
