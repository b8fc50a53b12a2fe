package scripts

// The model of the spill-over: one order whose own partition is 0, three partitions, and
// a step for each script. What else takes and returns VNs is the environment, because
// the free VNs are all that orders share.
const (
	modelPartitions = 3
	markLasts       = 60_000
	refusalLasts    = 600_000
)

type recordKind int8

const (
	nothing recordKind = iota
	active
	forwarded
	refusedHere
	ended
)

// spillRecord is the order's hash in one partition.
type spillRecord struct {
	kind   recordKind
	mark   int64
	at     int8
	points bool  // a tombstone that keeps `at`
	goes   int64 // when the key expires; 0: never, or not within the model's time
}

// spillState is the order in all partitions, and the VNs: each stands for as many as the
// order needs.
type spillState struct {
	now  int64
	free [modelPartitions]int8
	recs [modelPartitions]spillRecord
}

type replyKind int8

const (
	allocatedHere replyKind = iota
	replayedHere
	endedHere
	exhaustedHere
	forwardedThere
)

type spillReply struct {
	kind replyKind
	mark int64
	at   int8
}

// nextPartition is `next` as the model has it.
const (
	toNowhere = int8(-1)
	toHere    = int8(-2)
)

// mutant is a rule left out.
type mutant int8

const (
	sound          mutant = iota
	markNotKept           // own partition: the mark is told, but not written in the same script
	refusalNotLeft        // another partition: being empty leaves no trace
	anyoneMoves           // the mark is moved also by who was not refused where it points
	endsHomeOnly          // the end does not follow the mark
	endsThereFirst        // the end goes to the other partition before the order's own
	lateIsHonoured        // a mark is honoured although its refusals may have gone
)

// allocate is allocate.lua, as far as one order and its marks go.
func (s *spillState) allocate(p int8, mark int64, next int8, m mutant) spillReply {
	held := s.recs[p]
	switch {
	case held.kind == active:
		return spillReply{kind: replayedHere}
	case held.kind == ended:
		return spillReply{kind: endedHere}
	case held.kind == forwarded && held.mark != mark && (m != anyoneMoves || next == toNowhere):
		return spillReply{kind: forwardedThere, mark: held.mark, at: held.at}
	}
	enough := s.free[p] > 0
	if next == toHere && (s.now > mark+markLasts && m != lateIsHonoured || held.mark >= mark) {
		enough = false
	}
	if enough {
		s.free[p]--
		s.recs[p] = spillRecord{kind: active}
		return spillReply{kind: allocatedHere}
	}
	switch {
	case next == toHere && m == refusalNotLeft:
	case next == toHere:
		s.recs[p] = spillRecord{kind: refusedHere, mark: max(held.mark, mark), goes: s.now + refusalLasts}
	case next == toNowhere && held.kind == forwarded:
		s.recs[p].goes = s.now + refusalLasts
	case next == toNowhere:
	default:
		made := max(s.now, held.mark+1)
		if m != markNotKept {
			s.recs[p] = spillRecord{kind: forwarded, mark: made, at: next}
		}
		return spillReply{kind: forwardedThere, mark: made, at: next}
	}
	return spillReply{kind: exhaustedHere}
}

// release is release.lua; it tells where the tombstone points to, or -1.
func (s *spillState) release(p int8) int8 {
	held := s.recs[p]
	switch held.kind {
	case active:
		s.free[p]++
		s.recs[p] = spillRecord{kind: ended}
	case forwarded:
		s.recs[p] = spillRecord{kind: ended, mark: held.mark, at: held.at, points: true}
	case ended:
	default:
		s.recs[p] = spillRecord{kind: ended, mark: held.mark}
	}
	if s.recs[p].points {
		return s.recs[p].at
	}
	return -1
}

// pass lets time go by until every mark is late and every refusal gone.
func (s *spillState) pass() {
	s.now += refusalLasts + 1
	for i := range s.recs {
		if s.recs[i].goes != 0 && s.recs[i].goes <= s.now {
			s.recs[i] = spillRecord{}
		}
	}
}

// spillWorker is one delivery of an event: Store.spill or Store.Release.
type spillWorker struct {
	finish bool
	pc     int8 // assign: 0 own partition, 1 where the mark points; finish: the same
	done   bool
	mark   int64
	next   int8
	at     int8
	moves  int8 // how often it may still choose a partition
}

// spillWorld is one moment of an exploration. It is comparable, so that moments that
// are the same are explored once.
type spillWorld struct {
	spillState

	workers [4]spillWorker
	ended   bool // an end was carried out whole: the app has its answer
	ghosts  int8 // scripts that Redis may still run without their caller hearing of it
	jumps   int8 // how often time may still pass
	others  int8 // how often the environment may still act
	lent    [modelPartitions]int8
}

// step runs one script for worker i and returns every way in which it may go on.
func (w spillWorld) step(i int, m mutant) []spillWorld {
	out := w.run(i, m)
	for j := range out {
		if k := &out[j].workers[i]; k.done {
			*k = spillWorker{done: true} // what it knew makes no difference any more
		}
	}
	return out
}

func (w spillWorld) run(i int, m mutant) []spillWorld {
	k := &w.workers[i]
	if k.finish {
		first, second := int8(0), int8(1)
		switch {
		case m == endsThereFirst && k.pc == 0:
			// It looks where the mark points, ends it there, and its own afterwards.
			k.at = w.recs[0].at
			if w.recs[0].kind == forwarded {
				w.release(k.at)
			}
			k.pc = second
		case m == endsThereFirst:
			w.release(first)
			k.done, w.ended = true, true
		case k.pc == 0:
			if k.at = w.release(first); k.at < 0 || m == endsHomeOnly {
				k.done, w.ended = true, true
			}
			k.pc = second
		default:
			w.release(k.at)
			k.done, w.ended = true, true
		}
		return []spillWorld{w}
	}
	var r spillReply
	if k.pc == 0 {
		r = w.allocate(0, k.mark, k.next, m)
	} else {
		r = w.allocate(k.at, k.mark, toHere, m)
	}
	switch r.kind {
	case forwardedThere:
		k.pc, k.mark, k.at = 1, r.mark, r.at
	case exhaustedHere:
		if k.moves == 0 {
			k.done = true
			break
		}
		k.pc = 0
		k.moves--
		out := []spillWorld{}
		for _, next := range []int8{toNowhere, 1, 2} {
			other := w
			other.workers[i].next = next
			if next == toNowhere {
				other.workers[i].moves = 0
			}
			out = append(out, other)
		}
		return out
	default:
		k.done = true
	}
	return []spillWorld{w}
}

// ghost runs the script that worker i would run next, and loses the answer.
func (w spillWorld) ghost(i int, m mutant) spillWorld {
	before := w.workers[i]
	after := w.run(i, m)[0]
	after.workers[i] = before
	after.ended = w.ended
	after.ghosts--
	return after
}

// broken says which promise does not hold at this moment.
func (w spillWorld) broken(total int8) string {
	holders, free := 0, int8(0)
	for p := range w.recs {
		free += w.free[p] + w.lent[p]
		if w.recs[p].kind == active {
			holders++
		}
	}
	switch {
	case holders > 1:
		return "the order has two assignments"
	case free+int8(holders) != total:
		return "a VN leaked"
	case holders > 0 && w.ended:
		return "an order lives after its end was acknowledged"
	}
	return ""
}

// closing says what is wrong after every worker has crashed here, the end is delivered
// again, and the scripts that were under way arrive late all the same.
func (w spillWorld) closing(total int8, m mutant) string {
	end := spillWorld{spillState: w.spillState, lent: w.lent}
	end.workers[0] = spillWorker{finish: true}
	for !end.workers[0].done {
		end = end.step(0, m)[0]
	}
	for i := range w.workers {
		end.workers[i] = w.workers[i]
		if !w.workers[i].done {
			end = end.step(i, m)[0]
		}
	}
	return end.broken(total)
}

// spillStart is where an exploration starts: so many deliveries of `assigned` and one of
// `completed`, with as many scripts that Redis runs after their caller has gone, leaps of
// time, and acts of other orders, which hold the VNs that are lent.
type spillStart struct {
	free, lent                        [modelPartitions]int8
	deliveries, ghosts, jumps, others int8
}

func (s spillStart) world() (w spillWorld, total int8) {
	w = spillWorld{
		spillState: spillState{now: 1_000_000, free: s.free}, lent: s.lent,
		ghosts: s.ghosts, jumps: s.jumps, others: s.others,
	}
	for i := range w.workers {
		switch {
		case i == 0:
			w.workers[i] = spillWorker{finish: true}
		case i <= int(s.deliveries):
			w.workers[i] = spillWorker{next: toNowhere, moves: 2}
		default:
			w.workers[i] = spillWorker{done: true}
		}
	}
	for p := range s.free {
		total += s.free[p] + s.lent[p]
	}
	return w, total
}
