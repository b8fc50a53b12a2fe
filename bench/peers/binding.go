package peers

import (
	"encoding/binary"
	"errors"

	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// errNoBinding means that nobody may make this call.
var errNoBinding = errors.New("no binding")

// open reads a packed binding as package scripts describes it: format 1,
// key id 1, carrier 1, party 1, lease end 4, VN to show 8, sealed number 36, order id.
func open(keys *seal.Keyset, token seal.Token, packed []byte) (destination, show vn.Number, err error) {
	const sealed, id = 16, 52
	if len(packed) <= id {
		return 0, 0, errNoBinding
	}
	key, ok := keys.ByID(packed[1])
	if !ok {
		return 0, 0, errNoBinding
	}
	destination, err = key.Open(packed[sealed:id], packed[id:], token, packed[3])
	return destination, vn.Number(binary.BigEndian.Uint64(packed[8:])), err
}
