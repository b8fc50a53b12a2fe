package form

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStray(t *testing.T) {
	t.Parallel()
	holders := []string{"From", "ForwardedFrom"}
	for signed, test := range map[string]struct {
		pairs string
		want  bool
	}{
		"From12025550100To12025550101":                {"From=12025550100&To=12025550101", false},
		"From+12025550100To+12025550101":              {"From=%2B12025550100&To=%2B12025550101", false},
		"From=12025550100&To=12025550101":             {"From=12025550100&To=12025550101", false},
		"ForwardedFrom12025550199From12025550100":     {"ForwardedFrom=12025550199&From=12025550100", false},
		"ForwardedFrom12025550199From12025550100 ":    {"Forwarded=&From=12025550199&From1=2025550100+", true},
		"ForwardedFrom+12025550199From+12025550100":   {"Forwarded=&From=%2B12025550199&From%2B1=2025550100", true},
		"From12025550100TextxFrom12025550199Texthi":   {"From=12025550100&Text=xFrom12025550199Texthi", true},
		"From12025550100TextxFrom12025550199Texthi ":  {"F=rom12025550100Textx&From=12025550199&Text=hi+", true},
		"BodyzFrom12025550199GFrom12025550100":        {"Body=z&From=12025550199&GFrom=12025550100", true},
		"CallerNamex=1&From=12025550199From120255501": {"CallerNamex=1&From=12025550199From120255501", true},
		"From120255TextFrom 12025550199 From5 From+":  {"From=120255&Text=From+12025550199+From5+From%2B", false},
		"FromanonymousTextFromFrom":                   {"From=anonymous&Text=FromFrom", false},
		"":                                            {"", false},
	} {
		var f Form
		require.True(t, f.Parse([]byte(test.pairs)))
		require.Equal(t, test.want, Stray([]byte(signed), "From", holders, f.Params), signed)
		half := len(f.Params) / 2
		require.Equal(t, test.want, Stray([]byte(signed), "From", holders, f.Params[:half], f.Params[half:]), signed)
	}
}
