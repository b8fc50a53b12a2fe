package sim

import (
	"sync"

	"github.com/callmask/callmask/vn"
)

// Market is what a simulated carrier has for sale. What left it does not come back:
// with real carriers a released number rests, too. It is safe for concurrent use.
type Market struct {
	mu      sync.Mutex
	shelves map[string]*shelf    // by region
	forSale map[vn.Number]string // number → region, while nobody has it
}

// shelf is one region's stock in the order in which it is offered.
type shelf struct {
	numbers []vn.Number
	next    int // everything before it is sold
}

// NewMarket returns a market that sells the stock; nil means DefaultStock.
func NewMarket(stock []Stock) (*Market, error) {
	if stock == nil {
		stock = DefaultStock()
	}
	m := &Market{shelves: make(map[string]*shelf), forSale: make(map[vn.Number]string)}
	for i := range stock {
		if err := m.AddStock(stock[i]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// AddStock puts more numbers up for sale. Those already known are left as they are.
func (m *Market) AddStock(stock Stock) error {
	numbers, err := stock.numbers()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sh := m.shelves[stock.Region]
	if sh == nil {
		sh = &shelf{}
		m.shelves[stock.Region] = sh
	}
	known := make(map[vn.Number]bool, len(sh.numbers))
	for _, n := range sh.numbers {
		known[n] = true
	}
	for _, n := range numbers {
		if !known[n] {
			sh.numbers = append(sh.numbers, n)
			m.forSale[n] = stock.Region
		}
	}
	return nil
}

// Offer returns up to limit numbers for sale in the region. It reserves nothing.
func (m *Market) Offer(region string, limit int) []vn.Number {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make([]vn.Number, 0, limit)
	sh := m.shelves[region]
	if sh == nil {
		return found
	}
	for i := sh.next; i < len(sh.numbers) && len(found) < limit; i++ {
		if _, free := m.forSale[sh.numbers[i]]; free {
			found = append(found, sh.numbers[i])
		} else if i == sh.next {
			sh.next++
		}
	}
	return found
}

// Sell sells one number; false when it is not for sale.
func (m *Market) Sell(number vn.Number) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, free := m.forSale[number]
	delete(m.forSale, number)
	return free
}

// SellOut leaves at most n numbers for sale in the region.
func (m *Market) SellOut(region string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sh := m.shelves[region]
	if sh == nil {
		return
	}
	for _, number := range sh.numbers {
		if _, free := m.forSale[number]; !free {
			continue
		}
		if n--; n < 0 {
			delete(m.forSale, number)
		}
	}
}

// Available returns how many numbers are for sale in the region.
func (m *Market) Available(region string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, r := range m.forSale {
		if r == region {
			n++
		}
	}
	return n
}
