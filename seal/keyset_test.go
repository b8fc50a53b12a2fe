package seal

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func TestKeysetAcceptsThePrimaryFirst(t *testing.T) {
	t.Parallel()
	keys, err := Open(writeKeyset(t,
		testEntry(9, Next), testEntry(4, Previous), testEntry(5, Primary), testEntry(2, Previous)))
	require.NoError(t, err)
	require.Equal(t, byte(5), keys.Primary().ID())
	require.Equal(t, []byte{5, 9, 2, 4}, ids(keys.Accepted()))
	for _, id := range []byte{2, 4, 5, 9} {
		k, ok := keys.ByID(id)
		require.True(t, ok)
		require.Equal(t, id, k.ID())
	}
	_, ok := keys.ByID(3)
	require.False(t, ok)
	require.Equal(t, []KeyInfo{
		{2, Previous, anHourAgo},
		{4, Previous, anHourAgo},
		{5, Primary, anHourAgo},
		{9, Next, anHourAgo},
	}, keys.List())
}

func TestListIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	keys, err := Open(writeKeyset(t, testEntry(1, Primary)))
	require.NoError(t, err)
	keys.List()[0].ID = 99
	require.Equal(t, byte(1), keys.List()[0].ID)
}

func TestKeysetFileOthersMayTouchIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777} {
		path := writeKeyset(t, testEntry(1, Primary))
		require.NoError(t, os.Chmod(path, mode))
		_, err := Open(path)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "chmod 600")
		_, err = Add(path)
		require.ErrorContains(t, err, "chmod 600", "nor is it edited")
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		path := writeKeyset(t, testEntry(1, Primary))
		require.NoError(t, os.Chmod(path, mode))
		_, err := Open(path)
		require.NoError(t, err)
	}
}

func TestKeysetMustBeAFile(t *testing.T) {
	t.Parallel()
	_, err := Open(filepath.Join(t.TempDir(), "none.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "none.json")

	dir := t.TempDir()
	_, err = Open(dir)
	require.ErrorContains(t, err, "not a regular file")

	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err = Open(pipe)
	require.ErrorContains(t, err, "not a regular file")

	large := filepath.Join(dir, "large")
	require.NoError(t, os.WriteFile(large, make([]byte, maxFileSize+1), fileMode))
	_, err = Open(large)
	require.ErrorContains(t, err, "larger than 1 MiB")
}

func TestBadKeysetIsRefusedWithItsFaultAndWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	short := testEntry(1, Primary)
	short.Secret = short.Secret[:31]
	long := testEntry(1, Primary)
	long.Secret = append(append([]byte(nil), long.Secret...), 0)
	timeless := testEntry(1, Primary)
	timeless.Created = time.Time{}
	twin := testEntry(1, Next)
	twin.ID = 2
	twoIDs := testEntry(2, Next)
	twoIDs.ID = 1
	keyset := func(keys ...entry) string { return string(encoded(t, &file{Version: 1, Keys: keys})) }
	good := keyset(testEntry(1, Primary))
	for name, c := range map[string]struct{ content, fault string }{
		"empty":               {"", "is not a keyset"},
		"not JSON":            {"secret", "is not a keyset"},
		"cut short":           {good[:len(good)-5], "is not a keyset"},
		"an array":            {"[" + good + "]", "is not a keyset"},
		"something after":     {good + "{}", "something follows"},
		"unknown field":       {strings.Replace(good, `"version"`, `"vision":1,"version"`, 1), "vision"},
		"no version":          {strings.Replace(good, `"version":1,`, "", 1), "version is 0"},
		"another version":     {strings.Replace(good, `"version":1`, `"version":2`, 1), "version is 2"},
		"bad last id":         {strings.Replace(good, `"last_id":0`, `"last_id":256`, 1), "last_id"},
		"no keys":             {keyset(), "0 primary keys"},
		"no primary":          {keyset(testEntry(1, Next)), "0 primary keys"},
		"two primaries":       {keyset(testEntry(1, Primary), testEntry(2, Primary)), "2 primary keys"},
		"two next":            {keyset(testEntry(1, Primary), testEntry(2, Next), testEntry(3, Next)), "2 next keys"},
		"an id twice":         {keyset(testEntry(1, Primary), twoIDs), "keys[1].id is used twice"},
		"a secret twice":      {keyset(testEntry(1, Primary), twin), "keys[1].secret is used twice"},
		"id 256":              {keyset(testEntry(256, Primary)), "keys[0].id must be 0 to 255"},
		"id -1":               {keyset(testEntry(-1, Primary)), "keys[0].id must be 0 to 255"},
		"unknown state":       {keyset(testEntry(1, "retired")), "keys[0].state"},
		"short secret":        {keyset(short), "keys[0].secret must be 32 bytes"},
		"long secret":         {keyset(long), "keys[0].secret must be 32 bytes"},
		"secret not base64":   {strings.Replace(good, `"secret":"`, `"secret":"*`, 1), "is not a keyset"},
		"no creation time":    {keyset(timeless), "keys[0].created is missing"},
		"nonsense as created": {strings.Replace(good, `"created":"`, `"created":"x`, 1), "is not a keyset"},
	} {
		path := filepath.Join(t.TempDir(), "keyset.json")
		require.NoError(t, os.WriteFile(path, []byte(c.content), fileMode))
		_, err := Open(path)
		require.ErrorContains(t, err, c.fault, name)
		require.ErrorContains(t, err, path, name)
		requireNoSecret(t, err.Error(), 1, 2, 3)
	}
}

func TestReloadSwapsInTheChangedKeyset(t *testing.T) {
	t.Parallel()
	path := writeKeyset(t, testEntry(1, Primary), testEntry(2, Next))
	keys, err := Open(path)
	require.NoError(t, err)
	one, two := keys.Accepted()[0], keys.Accepted()[1]

	rewriteKeyset(t, path, testEntry(1, Previous), testEntry(2, Primary))
	require.NoError(t, keys.Reload())
	require.Same(t, two, keys.Primary())
	require.Equal(t, []*Key{two, one}, keys.Accepted(), "the same keys go on, in other roles")

	rewriteKeyset(t, path, testEntry(2, Primary))
	require.NoError(t, keys.Reload())
	_, ok := keys.ByID(1)
	require.False(t, ok)
}

func TestReloadOfABadFileKeepsTheKeys(t *testing.T) {
	t.Parallel()
	path := writeKeyset(t, testEntry(1, Primary))
	keys, err := Open(path)
	require.NoError(t, err)
	primary := keys.Primary()

	require.NoError(t, os.WriteFile(path, []byte("{"), fileMode))
	require.ErrorContains(t, keys.Reload(), "is not a keyset")
	require.Same(t, primary, keys.Primary())

	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, keys.Reload(), os.ErrNotExist)
	require.Same(t, primary, keys.Primary())

	replaced := testEntry(1, Primary)
	replaced.Secret = fixedSecret(100)
	rewriteKeyset(t, path, replaced)
	err = keys.Reload()
	require.ErrorContains(t, err, "key 1 has another secret")
	requireNoSecret(t, err.Error(), 1, 100)
	require.Same(t, primary, keys.Primary())
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestPollLogsABadFileOnceAndNeverASecret(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	path := writeKeyset(t, testEntry(1, Primary))
	keys, err := Open(path, WithLogger(zerolog.New(log)))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	tick, done := make(chan time.Time), make(chan struct{})
	go func() { defer close(done); keys.poll(ctx, tick) }()
	look := func() { tick <- time.Time{}; tick <- time.Time{} } // the second is taken after the first is done

	look()
	require.Empty(t, log.String(), "nothing has changed")

	replaceFile(t, path, []byte("{"))
	look()
	look()
	require.Equal(t, 1, strings.Count(log.String(), "not usable"))

	rewriteKeyset(t, path, testEntry(1, Primary))
	look()
	require.Equal(t, 1, strings.Count(log.String(), "usable again"))
	require.Equal(t, 0, strings.Count(log.String(), "reloaded"), "it is the same keyset as before")

	rewriteKeyset(t, path, testEntry(1, Previous), testEntry(2, Primary))
	look()
	require.Equal(t, 1, strings.Count(log.String(), "keyset reloaded"))
	require.Contains(t, log.String(), `"primary":2`)
	requireNoSecret(t, log.String(), 1, 2)

	stop()
	<-done
}

func TestRunTakesUpAnotherProcessesEditAndStops(t *testing.T) {
	t.Parallel()
	path := writeKeyset(t, testEntry(1, Primary), testEntry(2, Next))
	keys, err := Open(path)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- keys.Run(ctx) }()

	require.NoError(t, Promote(path))
	require.Eventually(t, func() bool { return keys.Primary().ID() == 2 }, Settle, 5*time.Millisecond)

	stop()
	require.NoError(t, <-done)
}

func TestReadersSeeOneWholeKeyset(t *testing.T) {
	t.Parallel()
	path := writeKeyset(t, testEntry(1, Primary))
	keys, err := Open(path)
	require.NoError(t, err)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				accepted := keys.Accepted()
				if len(accepted) == 0 || len(accepted) > 3 {
					t.Error("a torn keyset")
					return
				}
				_ = keys.Primary().Token(alice)
				_, _ = keys.ByID(2)
				_ = keys.List()
			}
		})
	}
	for i := range 100 {
		f := []entry{testEntry(1, Primary)}
		if i%2 == 0 {
			f = []entry{testEntry(1, Previous), testEntry(2, Primary), testEntry(3, Next)}
		}
		require.NoError(t, writeFile(path, &file{Version: fileVersion, LastID: 3, Keys: f}))
		require.NoError(t, keys.Reload())
	}
	close(stop)
	readers.Wait()
}
