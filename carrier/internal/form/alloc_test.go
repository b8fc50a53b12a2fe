//go:build !race

package form

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseDoesNotAllocate(t *testing.T) {
	text := []byte("AccountSid=AC0&CallSid=CA0&From=%2B12025550100&To=%2B12025550101&City=NEW+YORK&From=x")
	var f Form
	require.Zero(t, testing.AllocsPerRun(100, func() {
		f.Parse(text)
		_, _ = f.Get("To")
		_, _, _ = f.Optional("nothing")
	}))
}

func BenchmarkParse(b *testing.B) {
	text := []byte("AccountSid=AC0&CallSid=CA0&From=%2B12025550100&To=%2B12025550101&City=NEW+YORK&From=x")
	var f Form
	b.ReportAllocs()
	for b.Loop() {
		f.Parse(text)
	}
}
