package sizing

// Cost is one measured figure.
type Cost struct {
	Name  string
	Value float64
	Unit  string
	// Source is the command that measured it, and where the result stands.
	Source string
}

// Costs are what one of each thing costs.
type Costs struct {
	OrderBytes, OrderIDByte, EndedBytes, VNBytes, FreeVNBytes Cost // in Redis
	RouterCall, RedisCall, RedisOrder, AllocatorOrder         Cost // CPU time
	OrdersBytes, VNEventBytes, CallBytes, LedgerBytes         Cost // in NATS
	OrdersMessages, VNMessages, LedgerMessages                Cost
}

const (
	memoryRun  = "`bench run memory`, docs/bench/tables.md"
	resolveRun = "`bench run resolve`, docs/bench/tables.md"
	storageRun = "`bench run storage --rounds 1`"
)

// Measured returns the costs as last measured, on two shared cores: a new measurement is
// entered here, and `go test ./cmd/callmask/cli` says what of docs/sizing.md it changes.
func Measured() Costs {
	return Costs{
		// memory, "12-character ids" and "UUIDs": 876 and 1003 bytes, 24 characters apart.
		OrderBytes:  Cost{"a live order of 2 parties, 12-character id", 876, "bytes", memoryRun},
		OrderIDByte: Cost{"each further character of its id", 5.3, "bytes", memoryRun + " (UUIDs)"},
		// With 2 VNs that served nobody else: the most that an order can leave.
		EndedBytes:  Cost{"what an ended order leaves until its tombstone goes", 774, "bytes", memoryRun},
		VNBytes:     Cost{"a VN in the inventory", 114, "bytes", memoryRun},
		FreeVNBytes: Cost{"a VN that is free, besides", 70.5, "bytes", memoryRun},
		// At 8000/s and not at saturation, where a call costs a third: a router is not run full.
		RouterCall: Cost{"router, a signed call", 94.6, "µs", resolveRun + " (8000/s)"},
		RedisCall:  Cost{"Redis, a call, with 1M live orders", 27.5, "µs", "`bench run growth --full`, docs/bench/full/tables.md (5000/s)"},
		// (261 − 58) µs × 2004 calls/s ÷ 996 orders/s: what Redis does more beside the orders.
		RedisOrder:     Cost{"Redis, an order's whole life, with AOF and reaper", 408, "µs", "`bench run mixed`, docs/bench/tables.md (2000/s, beside less alone)"},
		AllocatorOrder: Cost{"everything but calls, an order: allocator, NATS, Redis", 2360, "µs", "`bench run allocate`, docs/bench/tables.md (callmask all)"},
		OrdersBytes:    Cost{"an order in stream ORDERS", 342, "bytes", storageRun},
		VNEventBytes:   Cost{"an order in stream VN", 419, "bytes", storageRun},
		CallBytes:      Cost{"a call in stream CALLS, each of its events", 281, "bytes", storageRun},
		LedgerBytes:    Cost{"a VN in stream LEDGER", 516, "bytes", storageRun},
		OrdersMessages: Cost{"messages of an order in ORDERS", 3, "", storageRun},
		VNMessages:     Cost{"messages of an order in VN", 2, "", storageRun},
		LedgerMessages: Cost{"messages of an order in LEDGER", 4, "", storageRun},
	}
}

// List returns all costs in the order of a table.
func (c *Costs) List() []Cost {
	return []Cost{
		c.OrderBytes, c.OrderIDByte, c.EndedBytes, c.VNBytes, c.FreeVNBytes, c.RouterCall, c.RedisCall, c.RedisOrder, c.AllocatorOrder,
		c.OrdersBytes, c.VNEventBytes, c.CallBytes, c.LedgerBytes, c.OrdersMessages, c.VNMessages, c.LedgerMessages,
	}
}
