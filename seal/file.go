package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	fileVersion = 1
	maxFileSize = 1 << 20
	fileMode    = 0o600
)

// file is a keyset file.
type file struct {
	Version int     `json:"version"`
	LastID  int     `json:"last_id"` // of the newest key, so that a dropped id stays unused for long
	Keys    []entry `json:"keys"`    // by id
}

type entry struct {
	ID      int       `json:"id"`
	State   State     `json:"state"`
	Secret  []byte    `json:"secret"` // base64
	Created time.Time `json:"created"`
	// Since is when the key entered its state; absent, it is Created.
	Since time.Time `json:"since,omitzero"`
}

// since returns when the key entered its state.
func (e *entry) since() time.Time {
	if e.Since.IsZero() {
		return e.Created
	}
	return e.Since
}

// readFile reads and checks the keyset file at path. Its errors name the path.
func readFile(path string) ([]byte, *file, error) {
	raw, err := readPrivate(path)
	if err != nil {
		return nil, nil, fmt.Errorf("keyset file: %w", err)
	}
	f, err := decode(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("keyset file %s: %w", path, err)
	}
	return raw, f, nil
}

// readPrivate reads a regular file that nobody but its owner may touch.
func readPrivate(path string) (_ []byte, err error) {
	// O_NONBLOCK: opening a pipe that somebody left at path must not hang.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case openToOthers(info.Mode().Perm(), ownerOf(info), os.Getuid()):
		return nil, fmt.Errorf("%s may be read or written by others (mode %04o): run chmod 600 %s",
			path, info.Mode().Perm(), path)
	case info.Size() > maxFileSize:
		return nil, fmt.Errorf("%s is larger than 1 MiB: it is no keyset", path)
	}
	return io.ReadAll(io.LimitReader(f, maxFileSize))
}

// openToOthers tells whether a keyset file may be read or written by somebody whom it is
// not for. Kubernetes mounts a secret as root's and readable by the group of the pod,
// which is how a process that is not root gets to read it at all.
func openToOthers(mode fs.FileMode, owner, user int) bool {
	if owner == 0 && user != 0 {
		return mode&0o037 != 0
	}
	return mode&0o077 != 0
}

// ownerOf returns the user whose file it is, -1 when that is not known.
func ownerOf(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// decode reads a keyset and checks its rules. Its errors hold nothing of a secret.
func decode(raw []byte) (*file, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	f := &file{}
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("is not a keyset: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("is not a keyset: something follows it")
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	slices.SortFunc(f.Keys, func(a, b entry) int { return a.ID - b.ID })
	return f, nil
}

// check returns what breaks the rules of a keyset.
func (f *file) check() error {
	if f.Version != fileVersion {
		return fmt.Errorf("version is %d: this program reads version %d", f.Version, fileVersion)
	}
	if f.LastID < 0 || f.LastID > 255 {
		return errors.New("last_id must be 0 to 255")
	}
	ids, secrets, states := map[int]bool{}, map[string]bool{}, map[State]int{}
	for i, e := range f.Keys {
		switch {
		case e.ID < 0 || e.ID > 255:
			return fmt.Errorf("keys[%d].id must be 0 to 255", i)
		case ids[e.ID]:
			return fmt.Errorf("keys[%d].id is used twice", i)
		case e.State != Next && e.State != Primary && e.State != Previous:
			return fmt.Errorf("keys[%d].state must be next, primary or previous", i)
		case len(e.Secret) != secretSize:
			return fmt.Errorf("keys[%d].secret must be 32 bytes in base64", i)
		case secrets[string(e.Secret)]:
			return fmt.Errorf("keys[%d].secret is used twice", i)
		case e.Created.IsZero():
			return fmt.Errorf("keys[%d].created is missing", i)
		}
		ids[e.ID], secrets[string(e.Secret)] = true, true
		states[e.State]++
	}
	switch {
	case states[Primary] != 1:
		return fmt.Errorf("there are %d primary keys: there must be exactly one", states[Primary])
	case states[Next] > 1:
		return fmt.Errorf("there are %d next keys: there may be one", states[Next])
	}
	return nil
}

func (f *file) encode() ([]byte, error) {
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the keyset: %w", err)
	}
	return append(raw, '\n'), nil
}

// find returns the first key that has the property, or nil.
func (f *file) find(has func(*entry) bool) *entry {
	for i := range f.Keys {
		if has(&f.Keys[i]) {
			return &f.Keys[i]
		}
	}
	return nil
}

func (f *file) inState(s State) *entry {
	return f.find(func(e *entry) bool { return e.State == s })
}

func (f *file) withID(id byte) *entry {
	return f.find(func(e *entry) bool { return e.ID == int(id) })
}
