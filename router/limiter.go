package router

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callmask/callmask/vn"
)

// The limiter's size is fixed: 64 shards of 128 sets of 8 entries of 16 bytes make
// 65,536 entries in about 1 MiB, twice as many as can be over a limit of 60 a minute at
// 32,000 refused calls a second.
const (
	limiterShards = 64
	limiterSets   = 128
	limiterWays   = 8
)

// limiter counts refused calls per caller and per called number in token buckets.
// A bucket is kept as the one instant at which it will be full again (the generic
// cell rate algorithm), under a hash of the number with a seed of this process: no
// number is kept, and a full bucket needs no entry. Memory is bounded: a set that
// is full gives up the bucket that is nearest to full, so that a flood of numbers
// does not wash out one that is over its limit. Zero allocations.
//
// Nearly every call finds nobody over the limit near its two numbers, and one atomic
// reading for each of them tells: the buckets and their lock are for the others.
type limiter struct {
	off    bool
	token  int64                 // ns until one token is back
	window int64                 // ns until an empty bucket is full
	clock  func(time.Time) int64 // the limiter's clock at an instant
	caller maphash.Seed
	number maphash.Seed
	shards [limiterShards]limiterShard
}

type limiterShard struct {
	// emptyUntil holds, for each set, until when one of its buckets holds less than a token.
	emptyUntil [limiterSets]atomic.Int64

	mu   sync.Mutex
	sets [limiterSets][limiterWays]bucket
	_    [56]byte // keeps two shards' locks off one cache line
}

type bucket struct {
	key  uint64
	full int64 // the limiter's clock when the bucket is full again
}

// limitedBy says whose bucket is empty.
type limitedBy uint8

const (
	notLimited limitedBy = iota
	byCaller
	byNumber
)

// newLimiter makes a limiter of perMinute refused calls a minute and as many at
// once; a negative one never limits.
func newLimiter(perMinute int) *limiter {
	l := &limiter{off: perMinute < 0, caller: maphash.MakeSeed(), number: maphash.MakeSeed()}
	if !l.off {
		l.token = int64(time.Minute) / int64(perMinute)
		l.window = l.token * int64(perMinute)
	}
	start := time.Now()
	l.clock = func(at time.Time) int64 { return int64(at.Sub(start)) }
	return l
}

// check tells whether a call at the instant is over the limit, and spends nothing.
func (l *limiter) check(at time.Time, calling, called vn.Number) limitedBy {
	if l.off {
		return notLimited
	}
	now := l.clock(at)
	if calling != 0 && l.empty(maphash.Comparable(l.caller, calling), now) {
		return byCaller
	}
	if called != 0 && l.empty(maphash.Comparable(l.number, called), now) {
		return byNumber
	}
	return notLimited
}

// refused spends a token of the caller and one of the number.
func (l *limiter) refused(at time.Time, calling, called vn.Number) {
	if l.off {
		return
	}
	now := l.clock(at)
	if calling != 0 {
		l.spend(maphash.Comparable(l.caller, calling), now)
	}
	if called != 0 {
		l.spend(maphash.Comparable(l.number, called), now)
	}
}

// spendPair takes a token of the two together, and tells whether there was one.
func (l *limiter) spendPair(at time.Time, calling, called vn.Number) bool {
	if l.off {
		return true
	}
	key, now := maphash.Comparable(l.caller, [2]vn.Number{calling, called}), l.clock(at)
	if l.empty(key, now) {
		return false
	}
	l.spend(key, now)
	return true
}

func (l *limiter) at(key uint64) (s *limiterShard, set int) {
	return &l.shards[key%limiterShards], int(key / limiterShards % limiterSets)
}

// again returns when a bucket that will be full at the instant full holds a token again.
func (l *limiter) again(full int64) int64 { return full - l.window + l.token }

// empty tells whether the key's bucket holds less than one token.
func (l *limiter) empty(key uint64, now int64) bool {
	s, at := l.at(key)
	if now >= s.emptyUntil[at].Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	set := &s.sets[at]
	for i := range set {
		if set[i].key == key {
			return now < l.again(set[i].full)
		}
	}
	return false
}

// spend takes a token of the key's bucket; an empty one stays empty.
func (l *limiter) spend(key uint64, now int64) {
	s, at := l.at(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	set := &s.sets[at]
	b := &set[0]
	for i := range set {
		if set[i].key == key {
			b = &set[i]
			break
		}
		if set[i].full < b.full {
			b = &set[i]
		}
	}
	if b.key != key {
		*b = bucket{key: key}
	}
	b.full = min(max(b.full, now)+l.token, now+l.window)
	if until := l.again(b.full); until > s.emptyUntil[at].Load() {
		s.emptyUntil[at].Store(until)
	}
}
