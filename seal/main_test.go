package seal

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixedSecret is n, n+1, n+2 …: a secret that golden values can be pinned to.
func fixedSecret(n byte) []byte {
	secret := make([]byte, secretSize)
	for i := range secret {
		secret[i] = n + byte(i)
	}
	return secret
}

func fixedKey(tb testing.TB, id, secret byte) *Key {
	tb.Helper()
	k, err := newKey(id, fixedSecret(secret))
	require.NoError(tb, err)
	return k
}

// anHourAgo is old enough for every change to have reached every process.
var anHourAgo = stamp(time.Now().Add(-time.Hour))

func testEntry(id int, s State) entry {
	return entry{ID: id, State: s, Secret: fixedSecret(byte(id)), Created: anHourAgo}
}

func encoded(tb testing.TB, f *file) []byte {
	tb.Helper()
	raw, err := json.Marshal(f)
	require.NoError(tb, err)
	return raw
}

// writeKeyset writes a keyset file of these keys and returns its path.
func writeKeyset(tb testing.TB, keys ...entry) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "keyset.json")
	rewriteKeyset(tb, path, keys...)
	return path
}

func rewriteKeyset(tb testing.TB, path string, keys ...entry) {
	tb.Helper()
	f := &file{Version: fileVersion, Keys: keys}
	for _, e := range keys {
		f.LastID = max(f.LastID, e.ID)
	}
	replaceFile(tb, path, encoded(tb, f))
}

// replaceFile replaces the file in one step, so that a poll under way reads the old
// or the new one.
func replaceFile(tb testing.TB, path string, content []byte) {
	tb.Helper()
	temp := filepath.Join(tb.TempDir(), "temp")
	require.NoError(tb, os.WriteFile(temp, content, fileMode))
	require.NoError(tb, os.Rename(temp, path))
}

func ids(keys []*Key) []byte {
	all := make([]byte, 0, len(keys))
	for _, k := range keys {
		all = append(all, k.ID())
	}
	return all
}

// requireNoSecret fails when text holds a fixed secret of one of the ids, in base64
// as in the file or in another usual form.
func requireNoSecret(tb testing.TB, text string, secrets ...byte) {
	tb.Helper()
	for _, n := range secrets {
		secret := fixedSecret(n)
		inBase64, err := json.Marshal(secret)
		require.NoError(tb, err)
		require.NotContains(tb, text, string(bytes.Trim(inBase64, `"=`))[:16])
		require.NotContains(tb, text, string(secret[:8]))
	}
}
