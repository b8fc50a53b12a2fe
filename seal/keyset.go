package seal

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// PollInterval is how often Run looks at the keyset file.
const PollInterval = time.Second

// State is what a key of a keyset is used for.
type State string

// The states of a key, in the order in which it goes through them.
const (
	Next     State = "next"     // accepted everywhere, not used yet
	Primary  State = "primary"  // makes every new token and seal
	Previous State = "previous" // accepted until it is dropped
)

// KeyInfo is what may be shown of a key.
type KeyInfo struct {
	ID      byte
	State   State
	Created time.Time
}

// Keyset is the content of a keyset file. All its methods are safe for concurrent
// use; each reads one consistent snapshot, which Reload and Run replace as a whole.
type Keyset struct {
	path    string
	logger  zerolog.Logger
	reload  sync.Mutex // one Reload at a time
	raw     []byte     // the file's bytes behind current; guarded by reload
	current atomic.Pointer[snapshot]
}

type snapshot struct {
	accepted []*Key // the primary first
	byID     [256]*Key
	infos    []KeyInfo
}

// Option changes how a Keyset is made.
type Option func(*Keyset)

// WithLogger makes Run log through l what it reloads and why it could not. Without
// it nothing is logged.
func WithLogger(l zerolog.Logger) Option {
	return func(k *Keyset) { k.logger = l }
}

// Open reads the keyset file at path. It refuses a file that anybody but its owner
// may read or write, and one that is not a whole and valid keyset.
func Open(path string, options ...Option) (*Keyset, error) {
	k := &Keyset{path: path, logger: zerolog.Nop()}
	for _, option := range options {
		option(k)
	}
	if err := k.Reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Run looks at the file every PollInterval and swaps in a changed keyset, so that an
// edit by another process takes effect without a restart. A file that is missing or
// bad is logged once and changes nothing: the keys in use stay. It returns nil when
// ctx ends.
func (k *Keyset) Run(ctx context.Context) error {
	tick := time.NewTicker(PollInterval)
	defer tick.Stop()
	k.poll(ctx, tick.C)
	return nil
}

func (k *Keyset) poll(ctx context.Context, tick <-chan time.Time) {
	logged := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		before := k.current.Load()
		switch err := k.Reload(); {
		case err != nil && err.Error() != logged:
			logged = err.Error()
			k.logger.Error().Err(err).Msg("the keyset file is not usable: the keys loaded before stay in use")
		case err == nil && logged != "":
			logged = ""
			k.logger.Info().Str("path", k.path).Msg("the keyset file is usable again")
		}
		if after := k.current.Load(); after != before {
			k.logger.Info().Str("path", k.path).Uint8("primary", after.accepted[0].id).
				Int("keys", len(after.accepted)).Msg("keyset reloaded")
		}
	}
}

// Reload reads the file now. On an error the keyset stays as it was. A file in which
// a loaded id has another secret is an error too: what was sealed would no longer open.
func (k *Keyset) Reload() error {
	k.reload.Lock()
	defer k.reload.Unlock()
	raw, f, err := readFile(k.path)
	if err != nil {
		return err
	}
	if bytes.Equal(raw, k.raw) {
		return nil
	}
	next, err := newSnapshot(f, k.current.Load())
	if err != nil {
		return fmt.Errorf("keyset file %s: %w", k.path, err)
	}
	k.raw = raw
	k.current.Store(next)
	return nil
}

// newSnapshot makes a snapshot of f, taking over the keys that old (may be nil)
// already holds.
func newSnapshot(f *file, old *snapshot) (*snapshot, error) {
	s := &snapshot{}
	states := map[State][]*Key{}
	for _, e := range f.Keys {
		var key *Key
		if old != nil {
			key = old.byID[e.ID]
		}
		switch {
		case key == nil:
			made, err := newKey(byte(e.ID), e.Secret)
			if err != nil {
				return nil, fmt.Errorf("key %d: %w", e.ID, err)
			}
			key = made
		case !bytes.Equal(key.secret[:], e.Secret):
			return nil, fmt.Errorf("key %d has another secret than the one in use: restore it, or restart to use this file", e.ID)
		}
		s.byID[e.ID] = key
		s.infos = append(s.infos, KeyInfo{ID: key.id, State: e.State, Created: e.Created})
		states[e.State] = append(states[e.State], key)
	}
	for _, state := range []State{Primary, Next, Previous} {
		s.accepted = append(s.accepted, states[state]...)
	}
	return s, nil
}

// Primary returns the key that makes new tokens and seals.
func (k *Keyset) Primary() *Key { return k.current.Load().accepted[0] }

// Accepted returns every key under which a caller may be known: the primary first,
// then next, then the previous ones. The slice is shared: callers only read it.
func (k *Keyset) Accepted() []*Key { return k.current.Load().accepted }

// ByID returns the key with that id.
func (k *Keyset) ByID(id byte) (*Key, bool) {
	key := k.current.Load().byID[id]
	return key, key != nil
}

// List returns what may be shown of the keys, by id.
func (k *Keyset) List() []KeyInfo {
	return append([]KeyInfo(nil), k.current.Load().infos...)
}

// OpenBytes returns the payload of a box that SealBytes made under any key of the
// keyset with the same context: ErrKeyUnknown when its key is not there any more,
// else ErrNotOpened.
func (k *Keyset) OpenBytes(box, context []byte) ([]byte, error) {
	if len(box) < boxHeader || box[0] != Format {
		return nil, ErrNotOpened
	}
	key, ok := k.ByID(box[1])
	if !ok {
		return nil, ErrKeyUnknown
	}
	return key.openBytes(box, context)
}

// Format implements fmt.Formatter so that no verb prints a secret.
func (k *Keyset) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "keyset %s", k.path)
}
