package seal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCreateMakesOnePrivatePrimaryKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	keys, err := Create(path)
	require.NoError(t, err)
	require.Len(t, keys.List(), 1)
	require.Equal(t, Primary, keys.List()[0].State)
	require.WithinDuration(t, time.Now(), keys.List()[0].Created, time.Minute)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	again, err := Open(path)
	require.NoError(t, err)
	require.Equal(t, keys.Primary().Token(alice), again.Primary().Token(alice))

	other, err := Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	require.NotEqual(t, keys.Primary().Token(alice), other.Primary().Token(alice), "secrets are random")
}

func TestCreateNeverOverwrites(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	var created, refused sync.Map
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			if keys, err := Create(path); err == nil {
				created.Store(w, keys)
			} else {
				refused.Store(w, err)
			}
		})
	}
	workers.Wait()
	n := 0
	created.Range(func(any, any) bool { n++; return true })
	require.Equal(t, 1, n, "one of many wins")
	refused.Range(func(_, err any) bool {
		e, _ := err.(error)
		require.ErrorIs(t, e, fs.ErrExist)
		require.ErrorContains(t, e, path)
		return true
	})

	link := filepath.Join(t.TempDir(), "link.json")
	require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "gone.json"), link))
	_, err := Create(link)
	require.ErrorIs(t, err, fs.ErrExist, "a dangling link is somebody's mistake, not a free place")
}

func TestCreateNamesTheMissingDirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none", "keyset.json")
	_, err := Create(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, path)
}

func TestAKeyLivesFromNextOverPrimaryToPreviousAndGone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	keys, err := Create(path)
	require.NoError(t, err)
	first := keys.Primary().ID()
	sealed, err := keys.Primary().Seal(bob, order, keys.Primary().Token(alice), 1)
	require.NoError(t, err)
	opens := func() {
		t.Helper()
		k, ok := keys.ByID(first)
		require.True(t, ok)
		n, err := k.Open(sealed[:], []byte(order), k.Token(alice), 1)
		require.NoError(t, err)
		require.True(t, n == bob)
	}
	state := func() map[byte]State {
		t.Helper()
		require.NoError(t, keys.Reload())
		states := map[byte]State{}
		for _, k := range keys.List() {
			states[k.ID] = k.State
		}
		return states
	}

	second, err := Add(path)
	require.NoError(t, err)
	require.Equal(t, map[byte]State{first: Primary, second: Next}, state())
	opens()
	_, err = Add(path)
	require.ErrorContains(t, err, "is next already")

	require.NoError(t, promote(path, 0))
	require.Equal(t, map[byte]State{first: Previous, second: Primary}, state())
	opens()
	require.ErrorContains(t, promote(path, 0), "no key is next")

	require.ErrorContains(t, drop(path, second, 0), "is primary")
	require.ErrorContains(t, drop(path, 200, 0), "there is no key 200")
	require.NoError(t, drop(path, first, 0))
	require.Equal(t, map[byte]State{second: Primary}, state())

	third, err := Add(path)
	require.NoError(t, err)
	require.NotEqual(t, first, third, "a dropped id does not come back at once")
	require.NoError(t, drop(path, third, time.Hour), "a key that was never used goes without waiting")
	require.Equal(t, map[byte]State{second: Primary}, state())
}

func TestDropObeysWhoSpeaksAgainstIt(t *testing.T) {
	t.Parallel()
	path := writeKeyset(t, testEntry(1, Previous), testEntry(2, Primary))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	inUse := errors.New("an order uses it")
	err = Drop(path, 1, func() error { return nil }, func() error { return inUse })
	require.ErrorIs(t, err, inUse)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after, "a refused edit changes nothing")
	require.NoError(t, Drop(path, 1, func() error { return nil }))
}

func TestPromoteWaitsUntilEveryProcessKnowsTheKey(t *testing.T) {
	t.Parallel()
	const settle = 300 * time.Millisecond
	path := filepath.Join(t.TempDir(), "keyset.json")
	_, err := Create(path)
	require.NoError(t, err)
	started := time.Now()
	_, err = Add(path)
	require.NoError(t, err)
	require.NoError(t, promote(path, settle))
	require.GreaterOrEqual(t, time.Since(started), settle)
}

func TestDropWaitsUntilNoProcessUsesTheKey(t *testing.T) {
	t.Parallel()
	const settle = 300 * time.Millisecond
	path := writeKeyset(t, testEntry(1, Primary), testEntry(2, Next))
	started := time.Now()
	require.NoError(t, promote(path, time.Minute), "an old key is promoted at once")
	var asked time.Time
	require.NoError(t, drop(path, 1, settle, func() error { asked = time.Now(); return nil }))
	require.GreaterOrEqual(t, asked.Sub(started), settle, "whoever may refuse is asked when the answer is final")
}

func TestAnEditWhileAnotherWaitsIsNoticed(t *testing.T) {
	t.Parallel()
	fresh := testEntry(2, Next)
	fresh.Created = stamp(time.Now())
	path := writeKeyset(t, testEntry(1, Primary), testEntry(2, Next))
	err := edit(path, func(f *file) error { // between the wait of promote and its lock
		f.Keys[1] = fresh
		return nil
	})
	require.NoError(t, err)
	err = edit(path, promoted(time.Hour))
	require.ErrorIs(t, err, errChanged)

	previous := testEntry(1, Previous)
	previous.Since = stamp(time.Now())
	path = writeKeyset(t, previous, testEntry(2, Primary))
	require.ErrorIs(t, edit(path, dropped(1, time.Hour, nil)), errChanged)
}

func TestAClockSetBackDoesNotBlock(t *testing.T) {
	t.Parallel()
	future := testEntry(2, Next)
	future.Created = stamp(time.Now().Add(time.Hour))
	path := writeKeyset(t, testEntry(1, Primary), future)
	require.NoError(t, promote(path, 10*time.Millisecond))
}

func TestIDsAreUsedInTurn(t *testing.T) {
	t.Parallel()
	f := &file{Version: fileVersion, LastID: 254, Keys: []entry{testEntry(0, Previous), testEntry(1, Primary)}}
	id, err := f.add(Previous, time.Now())
	require.NoError(t, err)
	require.Equal(t, byte(255), id)
	id, err = f.add(Previous, time.Now())
	require.NoError(t, err)
	require.Equal(t, byte(2), id, "0 and 1 are present")
	for range 252 {
		_, err = f.add(Previous, time.Now())
		require.NoError(t, err)
	}
	require.NoError(t, f.check(), "256 keys, no id and no secret twice")
	_, err = f.add(Previous, time.Now())
	require.ErrorContains(t, err, "all 256 ids are in use")
}

func TestEditsByManyProcessesDoNotLoseOneAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	_, err := Create(path)
	require.NoError(t, err)
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := Open(path); err != nil {
				t.Errorf("a reader met a file that is no keyset: %v", err)
				return
			}
		}
	})
	for range 8 {
		writers.Go(func() {
			for range 5 {
				// Each holds a lock of its own, as a process of its own does.
				err := edit(path, func(f *file) error {
					_, err := f.add(Previous, time.Now())
					return err
				})
				if err != nil {
					t.Errorf("edit: %v", err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	keys, err := Open(path)
	require.NoError(t, err)
	require.Len(t, keys.List(), 1+8*5)
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 2, "the keyset and its lock, no temporary files")
}

func TestALockHeldElsewhereIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
	lock, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lock.Close()) })
	require.ErrorContains(t, flock(lock, 30*time.Millisecond), "another process")
	require.NoError(t, held.Close())
	require.NoError(t, flock(lock, time.Second), "a process that ends leaves no lock")
}

func TestAnEditThroughALinkKeepsTheLink(t *testing.T) {
	t.Parallel()
	path := writeKeyset(t, testEntry(1, Primary))
	link := filepath.Join(t.TempDir(), "link.json")
	require.NoError(t, os.Symlink(path, link))
	_, err := Add(link)
	require.NoError(t, err)
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type())
	keys, err := Open(path)
	require.NoError(t, err)
	require.Len(t, keys.List(), 2)
}

func TestAnEditKeepsTheOwner(t *testing.T) {
	t.Parallel()
	path := writeKeyset(t, testEntry(1, Primary))
	if os.Geteuid() == 0 { // only root can be another than the owner
		require.NoError(t, os.Chown(path, 12345, 12345))
	}
	before := owner(t, path)
	_, err := Add(path)
	require.NoError(t, err)
	require.Equal(t, before, owner(t, path))
}

func owner(t *testing.T, path string) [2]uint32 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	return [2]uint32{stat.Uid, stat.Gid}
}

func TestAnEditThatBreaksARuleIsNotWritten(t *testing.T) {
	t.Parallel()
	path := writeKeyset(t, testEntry(1, Primary))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	err = edit(path, func(f *file) error {
		f.Keys = append(f.Keys, testEntry(2, Primary))
		return nil
	})
	require.ErrorContains(t, err, "2 primary keys")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func FuzzKeysetFile(f *testing.F) {
	good := encoded(f, &file{Version: fileVersion, LastID: 3, Keys: []entry{
		testEntry(1, Previous), testEntry(2, Primary), testEntry(3, Next),
	}})
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"version":1,"keys":[{"id":1}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		read, err := decode(raw)
		if err != nil {
			return
		}
		_, err = newSnapshot(read, nil)
		require.NoError(t, err, "what is read can be used")
		written, err := read.encode()
		require.NoError(t, err)
		again, err := decode(written)
		require.NoError(t, err, "what is read can be written")
		require.Equal(t, read, again)
	})
}
