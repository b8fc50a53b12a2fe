package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"

	"github.com/callmask/callmask/vn"
)

// Format is the first byte of everything that this package hashes or
// authenticates, and of the packed binding that holds a Sealed.
const Format byte = 1

const (
	secretSize = 32
	nonceSize  = 12
	numberSize = 8
	tagSize    = 16
	maxOrderID = 64
	boxHeader  = 2 // format, key id
	maxPayload = 64 << 20
	contextMax = 2 + maxOrderID + len(Token{}) + 1
)

// The purposes that HKDF separates the keys of one secret by.
const (
	purposeLookup = "callmask/1 lookup"
	purposeSeal   = "callmask/1 seal"
	purposeBox    = "callmask/1 box"
)

var (
	// ErrNotOpened means that a sealed value is damaged, or was sealed under another
	// key or for another order, caller, party or context. It never says which.
	ErrNotOpened = errors.New("seal: the sealed value does not open here")
	// ErrKeyUnknown means that the keyset has no key with the id that a box names.
	ErrKeyUnknown = errors.New("seal: the keyset has no key of that id")

	errNotANumber = errors.New("seal: only a number of 7 to 15 digits can be sealed")
	errNotAnOrder = errors.New("seal: an order id has 1 to 64 bytes")
	errTooLong    = errors.New("seal: a payload may have at most 64 MiB")
	errSecretSize = errors.New("a secret must be 32 bytes")
)

// Token stands for a caller: a keyed hash of its number. The same number has the
// same token under the same key, and nobody without the key can go from one to the
// other, not even by trying all numbers.
type Token [16]byte

// Sealed is an encrypted number: nonce 12 · AES-256-GCM of the 8-byte big-endian
// number · tag 16.
type Sealed [nonceSize + numberSize + tagSize]byte

// Key is one key of a Keyset. It is safe for concurrent use and never prints its
// secret.
type Key struct {
	id      byte
	secret  [secretSize]byte
	lookup  []byte
	sealer  cipher.AEAD // nonce size 0: Seal makes the nonce and puts it in front
	boxer   cipher.AEAD
	hashers sync.Pool // of *hasher
	buffers sync.Pool // of *buffer
}

// hasher holds what Token needs on the heap: whatever goes through an interface
// such as hash.Hash escapes, so it is pooled together with the hash.
type hasher struct {
	mac hash.Hash
	in  [1 + numberSize]byte
	sum [sha256.Size]byte
}

// buffer holds what Seal and Open hand to the cipher, for the same reason.
type buffer struct {
	context [contextMax]byte
	plain   [numberSize]byte
	sealed  Sealed
}

// newKey derives the keys of a secret of 32 bytes.
func newKey(id byte, secret []byte) (*Key, error) {
	if len(secret) != secretSize {
		return nil, errSecretSize
	}
	lookup, err := hkdf.Key(sha256.New, secret, nil, purposeLookup, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the lookup key: %w", err)
	}
	sealer, err := deriveAEAD(secret, purposeSeal)
	if err != nil {
		return nil, err
	}
	boxer, err := deriveAEAD(secret, purposeBox)
	if err != nil {
		return nil, err
	}
	return &Key{id: id, secret: [secretSize]byte(secret), lookup: lookup, sealer: sealer, boxer: boxer}, nil
}

func deriveAEAD(secret []byte, purpose string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("derive a sealing key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make the cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make the cipher: %w", err)
	}
	return aead, nil
}

// ID returns the key's id, by which stored values name it.
func (k *Key) ID() byte { return k.id }

// Format implements fmt.Formatter so that no verb prints a secret.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "key %d", k.id) }

// Token returns the first 16 bytes of HMAC-SHA256(lookup key, format ‖ number as 8
// bytes, big endian). It does not allocate.
func (k *Key) Token(n vn.Number) Token {
	h, ok := k.hashers.Get().(*hasher)
	if !ok {
		h = &hasher{mac: hmac.New(sha256.New, k.lookup)}
	}
	h.mac.Reset()
	h.in[0] = Format
	binary.BigEndian.PutUint64(h.in[1:], uint64(n))
	h.mac.Write(h.in[:]) // never fails: hash.Hash
	h.mac.Sum(h.sum[:0])
	t := Token(h.sum[:len(Token{})])
	clear(h.in[:])
	k.hashers.Put(h)
	return t
}

// Seal encrypts n so that it opens only for the same order id, caller token and
// party under this key. The nonce is random: a key must not seal more than 2^32
// numbers (NIST SP 800-38D, section 8.3), so rotate long before. It fails on
// something that is no number and on an order id that is not 1 to 64 bytes.
// It does not allocate.
func (k *Key) Seal(n vn.Number, orderID string, caller Token, party byte) (Sealed, error) {
	switch {
	case !n.Valid():
		return Sealed{}, errNotANumber
	case orderID == "" || len(orderID) > maxOrderID:
		return Sealed{}, errNotAnOrder
	}
	b := k.buffer()
	binary.BigEndian.PutUint64(b.plain[:], uint64(n))
	context := appendContext(b.context[:0], k.id, orderID, caller, party)
	k.sealer.Seal(b.sealed[:0], nil, b.plain[:], context) //nolint:gosec // G407: this AEAD takes no nonce, it makes a random one
	sealed := b.sealed
	clear(b.plain[:])
	k.buffers.Put(b)
	return sealed, nil
}

// Open returns the number in sealed (36 bytes, as Seal made it) if it was sealed
// under this key for exactly this order id, caller and party, else ErrNotOpened. It
// keeps neither slice and does not allocate.
func (k *Key) Open(sealed, orderID []byte, caller Token, party byte) (vn.Number, error) {
	if len(sealed) != len(Sealed{}) || len(orderID) == 0 || len(orderID) > maxOrderID {
		return 0, ErrNotOpened
	}
	b := k.buffer()
	copy(b.sealed[:], sealed)
	context := appendContext(b.context[:0], k.id, orderID, caller, party)
	_, err := k.sealer.Open(b.plain[:0], nil, b.sealed[:], context)
	n := vn.Number(binary.BigEndian.Uint64(b.plain[:]))
	clear(b.plain[:])
	k.buffers.Put(b)
	if err != nil || !n.Valid() {
		return 0, ErrNotOpened
	}
	return n, nil
}

func (k *Key) buffer() *buffer {
	if b, ok := k.buffers.Get().(*buffer); ok {
		return b
	}
	return new(buffer)
}

// appendContext appends the associated data of a sealed number. One field alone has
// no fixed length, so no two contexts give the same bytes.
func appendContext[T ~string | ~[]byte](dst []byte, id byte, orderID T, caller Token, party byte) []byte {
	dst = append(dst, Format, id)
	dst = append(dst, orderID...)
	dst = append(dst, caller[:]...)
	return append(dst, party)
}

// SealBytes encrypts a payload of any length: format 1 · key id 1 · nonce 12 ·
// AES-256-GCM of plain · tag 16. It opens only with the same context. The box is the
// caller's; a payload over 64 MiB is an error.
func (k *Key) SealBytes(plain, context []byte) ([]byte, error) {
	if len(plain) > maxPayload {
		return nil, errTooLong
	}
	box := make([]byte, boxHeader, boxHeader+nonceSize+len(plain)+tagSize)
	box[0], box[1] = Format, k.id
	return k.boxer.Seal(box, nil, plain, boxContext(k.id, context)), nil //nolint:gosec // G407: as in Seal
}

// openBytes opens a box whose header names this key.
func (k *Key) openBytes(box, context []byte) ([]byte, error) {
	plain, err := k.boxer.Open(nil, nil, box[boxHeader:], boxContext(k.id, context))
	if err != nil {
		return nil, ErrNotOpened
	}
	return plain, nil
}

func boxContext(id byte, context []byte) []byte {
	return append([]byte{Format, id}, context...)
}
