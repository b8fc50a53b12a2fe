package scripts

import (
	"context"
	"fmt"

	"github.com/callmask/callmask/vn"
)

// InventoryOf returns every VN of a carrier, in no order. It scans: a VN that comes or
// goes meanwhile may be among them or not, every other one is, once.
func (s *Store) InventoryOf(ctx context.Context, carrier string) (map[vn.Number]Inventory, error) {
	all := make(map[vn.Number]Inventory)
	for _, p := range s.layout.prefixes {
		for cursor := uint64(0); ; {
			// Each page has a deadline of its own: a large inventory takes many.
			page, cancel := s.bound(ctx)
			fields, next, err := s.client.HScan(page, inventoryKey(p), cursor, "", vnScanCount).Result()
			cancel()
			if err != nil {
				return nil, fmt.Errorf("scan the inventory: %w", unavailable(err))
			}
			for i := 0; i+1 < len(fields); i += 2 {
				n, ok := vn.ParseDigits(fields[i])
				if !ok {
					return nil, errInventory
				}
				inv, err := parseInventory(n, fields[i+1])
				if err != nil {
					return nil, err
				}
				if inv.Carrier == carrier {
					all[n] = inv
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return all, nil
}

// SomeFree returns up to n free VNs of a pool and carrier, any of them.
func (s *Store) SomeFree(ctx context.Context, pool, carrier string, n int) ([]vn.Number, error) {
	var some []vn.Number
	for _, p := range s.layout.prefixes {
		if len(some) >= n {
			break
		}
		reading, cancel := s.bound(ctx)
		members, err := s.client.SRandMemberN(reading, freeKey(p, pool, carrier), int64(n-len(some))).Result()
		cancel()
		if err != nil {
			return nil, fmt.Errorf("read free numbers: %w", unavailable(err))
		}
		numbers, err := parseNumbers(members)
		if err != nil {
			return nil, fmt.Errorf("read free numbers: %w", err)
		}
		some = append(some, numbers...)
	}
	return some, nil
}
