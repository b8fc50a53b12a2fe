package privateapi

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const secret = "an api token of sixteen"

func TestATokenAccepts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		token   Token
		headers []string
		want    bool
	}{
		"the token":                        {NewToken(secret), []string{"Bearer " + secret}, true},
		"the scheme in small letters":      {NewToken(secret), []string{"bearer " + secret}, true},
		"the scheme in capitals":           {NewToken(secret), []string{"BEARER " + secret}, true},
		"no header":                        {NewToken(secret), nil, false},
		"the token twice":                  {NewToken(secret), []string{"Bearer " + secret, "Bearer " + secret}, false},
		"a wrong one after it":             {NewToken(secret), []string{"Bearer " + secret, "Bearer x"}, false},
		"a wrong one before it":            {NewToken(secret), []string{"Bearer x", "Bearer " + secret}, false},
		"an empty header":                  {NewToken(secret), []string{""}, false},
		"another scheme":                   {NewToken(secret), []string{"Basic " + secret}, false},
		"no scheme":                        {NewToken(secret), []string{secret}, false},
		"an empty scheme":                  {NewToken(secret), []string{" " + secret}, false},
		"the scheme alone":                 {NewToken(secret), []string{"Bearer"}, false},
		"the scheme and nothing":           {NewToken(secret), []string{"Bearer "}, false},
		"another token":                    {NewToken(secret), []string{"Bearer wrong"}, false},
		"its beginning":                    {NewToken(secret), []string{"Bearer " + secret[:5]}, false},
		"it and more":                      {NewToken(secret), []string{"Bearer " + secret + "x"}, false},
		"it in another case":               {NewToken(secret), []string{"Bearer An api token of sixteen"}, false},
		"two spaces before it":             {NewToken(secret), []string{"Bearer  " + secret}, false},
		"nothing for an empty token":       {NewToken(""), []string{"Bearer "}, false},
		"the scheme alone for an empty":    {NewToken(""), []string{"Bearer"}, false},
		"any token for an empty one":       {NewToken(""), []string{"Bearer " + secret}, false},
		"nothing for the zero Token":       {Token{}, []string{"Bearer "}, false},
		"no header for the zero Token":     {Token{}, nil, false},
		"any token for the zero one of it": {Token{}, []string{"Bearer " + secret}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &http.Request{Header: http.Header{"Authorization": c.headers}}
			require.Equal(t, c.want, c.token.Accepts(r))
		})
	}
}

// Time cannot be measured well enough in a test, so this holds what makes it the same:
// only a hash is kept, and only crypto/subtle compares it.
func TestATokenIsComparedInConstantTimeOverHashes(t *testing.T) {
	t.Parallel()
	require.NotContains(t, fmt.Sprintf("%+v", NewToken(secret)), secret)
	source, err := os.ReadFile("token.go")
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(source), "t.sum"))
	require.Contains(t, string(source), "sum := sha256.Sum256([]byte(secret))\n\tsame := subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1\n")
}
