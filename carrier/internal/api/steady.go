package api

import (
	"errors"
	"maps"

	"github.com/callmask/callmask/carrier"
)

// readings is how often a list that changes is read at most.
const readings = 4

// Steady reads a list of the account's numbers. Where a carrier counts its pages, a
// number that is released while they are read moves another one from a page not read
// yet to one that has been, and that one is missed. So a list of several pages is
// read until two readings have the same numbers.
func Steady(read func() (all []carrier.Bought, pages int, err error)) ([]carrier.Bought, error) {
	var last map[string]struct{}
	for range readings {
		all, pages, err := read()
		if err != nil {
			return nil, err
		}
		refs := make(map[string]struct{}, len(all))
		for i := range all {
			refs[all[i].Ref] = struct{}{}
		}
		if pages == 1 || last != nil && maps.Equal(last, refs) {
			return all, nil
		}
		last = refs
	}
	return nil, errors.New("the list changes while it is read; ask again later")
}
