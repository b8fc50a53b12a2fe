package scripts

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/callmask/callmask/vn"
)

// forwards looks for live orders outside their own partition to which that does not
// point: a repeat would be assigned anew, and their end would not find them.
func (a *auditor) forwards(ctx context.Context, parts map[string]*census) error {
	layout := a.store.layout
	for partition, p := range layout.prefixes {
		for i := range parts[p].orders {
			id := parts[p].orders[i].id
			home := layout.home(id)
			if home == partition || !parts[p].orders[i].live || parts[layout.prefixes[home]].pointsTo(id, partition) {
				continue
			}
			if err := a.lookForwardAgain(ctx, id, home, partition); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *census) pointsTo(id string, partition int) bool {
	i, ok := c.byID[id]
	return ok && int(c.orders[i].at) == partition
}

// pointsTo tells whether an order's hash says that the order is in this partition.
func pointsTo(order map[string]string, partition int) bool {
	return order["at"] == strconv.Itoa(partition)
}

// lookForwardAgain reads the order's own partition between two readings of where it
// lives: the mark is written before and goes after, so it must be there in between.
func (a *auditor) lookForwardAgain(ctx context.Context, id string, home, partition int) error {
	ctx, cancel := a.store.bound(ctx)
	defer cancel()
	var lives [3]map[string]string
	for i, p := range []int{partition, home, partition} {
		h, err := a.store.client.HGetAll(ctx, orderKey(a.store.layout.prefixes[p], id)).Result()
		if err != nil {
			return fmt.Errorf("look at an order again: %w", unavailable(err))
		}
		lives[i] = h
	}
	if !liveOrder(lives[0]) || !liveOrder(lives[2]) || pointsTo(lives[1], partition) {
		a.out.Cleared++
		return nil
	}
	detail := fmt.Sprintf("lives in partition %d, but its own, %d, does not point there", partition, home)
	if liveOrder(lives[1]) {
		detail = fmt.Sprintf("lives in partition %d and in its own, %d", partition, home)
	}
	for _, digits := range strings.Split(lives[2]["numbers"], ",") {
		n, _ := vn.ParseDigits(digits)
		a.out.Problems = append(a.out.Problems, Problem{Kind: ProblemForward, VN: n, OrderID: id, Detail: detail})
	}
	return nil
}
