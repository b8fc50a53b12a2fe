package plan

import (
	"math/big"
	"regexp"

	"github.com/callmask/callmask/vn"
)

var decimal = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,12})?$`)

// Cost returns what n numbers cost a month at a price each, a decimal such as "1.15",
// exactly, with two decimals. Error: *vn.FieldError.
func Cost(n int, price string) (string, error) {
	if !decimal.MatchString(price) {
		return "", &vn.FieldError{Field: "price", Problem: "must be a decimal such as 1.15"}
	}
	each, _ := new(big.Rat).SetString(price) // it is a decimal
	return each.Mul(each, new(big.Rat).SetInt64(int64(n))).FloatString(2), nil
}
