package load

// ring is a queue that grows.
type ring[T any] struct {
	items []T
	head  int
	count int
}

func (r *ring[T]) reset(size int) {
	if len(r.items) < size {
		r.items = make([]T, size)
	}
	r.head, r.count = 0, 0
}

func (r *ring[T]) len() int { return r.count }

func (r *ring[T]) push(item T) {
	if r.count == len(r.items) {
		grown := make([]T, 2*len(r.items)+1)
		n := copy(grown, r.items[r.head:])
		copy(grown[n:], r.items[:r.head])
		r.items, r.head = grown, 0
	}
	r.items[(r.head+r.count)%len(r.items)] = item
	r.count++
}

func (r *ring[T]) peek() T { return r.items[r.head] }

func (r *ring[T]) pop() T {
	item := r.items[r.head]
	r.head = (r.head + 1) % len(r.items)
	r.count--
	return item
}
