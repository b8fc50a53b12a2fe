package scripts

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// The packed binding, big endian:
//
//	format 1 · key id 1 · carrier 1 · party 1 · lease end, s 4 · VN to show 8 · sealed number 36 · order id
//
// party is the index of the party to dial. The allocate script writes carrier, lease
// end and VN at their places; extend writes the lease end. These are outside of what
// the seal authenticates: format, key id, order id, caller token and party.
const (
	atFormat   = 0
	atKey      = 1
	atCarrier  = 2
	atParty    = 3
	atLeaseEnd = 4
	atVN       = 8
	atSealed   = 16
	atOrderID  = atSealed + len(seal.Sealed{})
)

var errBinding = errors.New("the packed binding is damaged or of another format")

// packBinding returns a binding without carrier, lease end and VN, as allocate
// takes it.
func packBinding(keyID byte, party int, sealed seal.Sealed, orderID string) []byte {
	b := make([]byte, atOrderID, atOrderID+len(orderID))
	b[atFormat] = seal.Format
	b[atKey] = keyID
	b[atParty] = byte(party)
	copy(b[atSealed:], sealed[:])
	return append(b, orderID...)
}

// binding is a view of a packed binding.
type binding []byte

func viewBinding(b []byte) (binding, error) {
	if len(b) <= atOrderID || b[atFormat] != seal.Format {
		return nil, errBinding
	}
	return b, nil
}

func (b binding) key() byte       { return b[atKey] }
func (b binding) carrier() byte   { return b[atCarrier] }
func (b binding) party() byte     { return b[atParty] }
func (b binding) vn() vn.Number   { return vn.Number(binary.BigEndian.Uint64(b[atVN:])) }
func (b binding) sealed() []byte  { return b[atSealed:atOrderID] }
func (b binding) orderID() []byte { return b[atOrderID:] }
func (b binding) leaseEnd() time.Time {
	return time.Unix(int64(binary.BigEndian.Uint32(b[atLeaseEnd:])), 0)
}
