package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"
)

// Settle is how long a change of the keyset file needs to reach every process that
// polls it: PollInterval with room for a slow one. Promote and Drop wait until the
// change before theirs is that old, so that no process ever meets a key that it does
// not know, or still uses one that is gone.
const Settle = 3 * PollInterval

// Create makes a keyset file with one primary key, readable by its owner alone, and
// opens it. It never overwrites: an existing file is an error (fs.ErrExist).
func Create(path string, options ...Option) (*Keyset, error) {
	err := locked(path, func(path string) error {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("keyset file %s: %w", path, fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keyset file: %w", err)
		}
		f := &file{Version: fileVersion}
		if _, err := f.add(Primary, time.Now()); err != nil {
			return err
		}
		return writeFile(path, f)
	})
	if err != nil {
		return nil, err
	}
	return Open(path, options...)
}

// Add adds a `next` key to the keyset file at path and returns its id. There may be
// only one.
func Add(path string) (byte, error) {
	var id byte
	err := edit(path, func(f *file) (err error) {
		if e := f.inState(Next); e != nil {
			return fmt.Errorf("key %d is next already: promote or drop it first", e.ID)
		}
		id, err = f.add(Next, time.Now())
		return err
	})
	return id, err
}

// Promote makes the `next` key of the file at path the primary one and the primary
// one `previous`. It waits, at most Settle, until every process has loaded the key.
func Promote(path string) error { return promote(path, Settle) }

func promote(path string, settle time.Duration) error {
	if err := await(path, settle, func(f *file) *entry { return f.inState(Next) }); err != nil {
		return err
	}
	return edit(path, promoted(settle))
}

func promoted(settle time.Duration) func(*file) error {
	return func(f *file) error {
		next, primary := f.inState(Next), f.inState(Primary)
		if next == nil {
			return errors.New("no key is next: add one first")
		}
		if age(next) < settle {
			return errChanged
		}
		now := stamp(time.Now())
		next.State, next.Since = Primary, now
		primary.State, primary.Since = Previous, now
		return nil
	}
}

// Drop removes a key that is not the primary one from the file at path. What was
// made under it no longer opens. A key that was primary until just now is dropped
// only when no process can still use it: Drop waits for that, at most Settle, and
// then asks each of refuse, under the lock, whether something speaks against it (a
// live order that uses the key); their error is the answer.
func Drop(path string, id byte, refuse ...func() error) error {
	return drop(path, id, Settle, refuse...)
}

func drop(path string, id byte, settle time.Duration, refuse ...func() error) error {
	previous := func(f *file) *entry {
		return f.find(func(e *entry) bool { return e.ID == int(id) && e.State == Previous })
	}
	if err := await(path, settle, previous); err != nil {
		return err
	}
	return edit(path, dropped(id, settle, refuse))
}

func dropped(id byte, settle time.Duration, refuse []func() error) func(*file) error {
	return func(f *file) error {
		e := f.withID(id)
		switch {
		case e == nil:
			return fmt.Errorf("there is no key %d", id)
		case e.State == Primary:
			return fmt.Errorf("key %d is primary: promote another one first", id)
		case e.State == Previous && age(e) < settle:
			return errChanged
		}
		for _, refused := range refuse {
			if err := refused(); err != nil {
				return fmt.Errorf("key %d: %w", id, err)
			}
		}
		f.Keys = slices.DeleteFunc(f.Keys, func(e entry) bool { return e.ID == int(id) })
		return nil
	}
}

// edit changes the keyset file at path under the lock. Nothing is written when
// change fails or breaks a rule of keysets.
func edit(path string, change func(*file) error) error {
	return locked(path, func(path string) error {
		_, f, err := readFile(path)
		if err != nil {
			return err
		}
		if err := change(f); err != nil {
			return fmt.Errorf("keyset file %s: %w", path, err)
		}
		return writeFile(path, f)
	})
}

// errChanged: between the wait and the lock another process edited the file.
var errChanged = errors.New("another process has just changed it: look at it and try again")

// age returns for how long e has been in its state. A clock that was set back gives
// no negative age, and a key from the future counts as old: waiting cannot help it.
func age(e *entry) time.Duration {
	d := time.Since(e.since())
	if d < 0 {
		return math.MaxInt64
	}
	return d
}

// await waits until the key that pick chooses, if any, has been in its state for
// settle.
func await(path string, settle time.Duration, pick func(*file) *entry) error {
	_, f, err := readFile(path)
	if err != nil {
		return err
	}
	if e := pick(f); e != nil {
		<-time.After(settle - age(e))
	}
	return nil
}

// add appends a new key under the first free id after the last one given out.
func (f *file) add(s State, now time.Time) (byte, error) {
	for range 256 {
		f.LastID = (f.LastID + 1) % 256
		if f.withID(byte(f.LastID)) != nil {
			continue
		}
		secret := make([]byte, secretSize)
		_, _ = rand.Read(secret) // never fails: it ends the program instead
		f.Keys = append(f.Keys, entry{ID: f.LastID, State: s, Secret: secret, Created: stamp(now)})
		return byte(f.LastID), nil
	}
	return 0, errors.New("all 256 ids are in use: drop previous keys first")
}

// stamp gives a time the form that it has in the file.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
