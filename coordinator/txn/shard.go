package txn

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/invariant"
	"github.com/rotpeter/rotpeter/internal/mutant"
)

// Options are the settings of a Shard. Start from DefaultOptions.
type Options struct {
	MaxTimeout     time.Duration // transaction.max.timeout.ms
	AbortInterval  time.Duration // transaction.abort.timed.out.transaction.cleanup.interval.ms
	Expiration     time.Duration // transactional.id.expiration.ms
	ExpiryInterval time.Duration // transaction.remove.expired.transaction.cleanup.interval.ms
	Level          int16         // finalized level of transaction.version when the shard is made; the event Level tells of others

	// LoadedAfter is the newest connection that may carry requests to a shard of this partition that was there before this one
	// and is forgotten: what comes over it or an older one is late, as nobody knows any more which came after it.
	LoadedAfter Conn
}

// DefaultOptions returns Kafka's defaults.
func DefaultOptions() Options {
	return Options{MaxTimeout: 15 * time.Minute, AbortInterval: 10 * time.Second, Expiration: 7 * 24 * time.Hour, ExpiryInterval: time.Hour, Level: 2}
}

// Shard is the coordinator.Shard of one partition of __transaction_state.
type Shard struct {
	o Options

	// Hard.
	all     map[string]*transaction
	skipped int64 // records that made no sense

	// Soft.
	ongoing map[string]bool         // ids with a transaction that may time out
	asked   map[string]*transaction // whose markers are being written
	abortAt time.Time               // zero: nothing to abort
	dropAt  time.Time               // zero: nothing to expire
}

// New returns an empty shard. Loaded must be called before Handle.
func New(o Options) *Shard {
	return &Shard{o: o, all: map[string]*transaction{}, ongoing: map[string]bool{}, asked: map[string]*transaction{}}
}

// turn is the handling of one event.
type turn struct {
	*Shard
	now time.Time
	out coordinator.Result
}

func (t *turn) millis() int64 { return t.now.UnixMilli() }

// Loaded asks for the markers of transactions that were decided and are not complete. It implements
// coordinator.LoadedShard.
func (s *Shard) Loaded(now time.Time) coordinator.Result {
	t := turn{Shard: s, now: now}
	for _, id := range slices.Sorted(maps.Keys(s.all)) {
		if x := s.all[id]; x.state.preparing() {
			t.markers(x)
		}
	}
	s.arm(now)
	return t.out
}

// Handle decides about one event; see the event types for the replies.
func (s *Shard) Handle(now time.Time, e coordinator.Event) coordinator.Result {
	t := turn{Shard: s, now: now}
	reply := func(body any) { t.out.Replies = append(t.out.Replies, coordinator.Reply{To: e.Token, Body: body}) }
	switch b := e.Body.(type) {
	case coordinator.Tick:
		t.tick()
	case Init:
		reply(t.init(b))
	case Add:
		reply(t.add(b))
	case End:
		reply(t.end(b))
	case MarkersWritten:
		t.markersWritten(b)
	case Describe:
		reply(t.describe(b))
	case List:
		reply(t.list(b))
	case Level:
		s.o.Level = int16(b)
	default:
		invariant.That(false, "a transaction shard knows its events", "body", e.Body)
	}
	s.arm(now)
	return t.out
}

// change writes a transaction down.
func (t *turn) change(x *transaction) {
	t.out.Records = append(t.out.Records, x.record(t.o.Level))
	t.all[x.id] = x // with what records do not say; Apply makes the rest true
}

// Apply makes one record true. Records that make no sense are counted and passed over.
func (s *Shard) Apply(r coordinator.Record) {
	id, known, ok := readKey(r.Key)
	switch {
	case !ok:
		s.skipped++
		return
	case !known:
		return
	case r.Value == nil:
		delete(s.all, id)
		delete(s.ongoing, id)
		return
	}
	x, ok := read(id, r.Value)
	if !ok {
		s.skipped++
		return
	}
	if was := s.all[id]; was != nil {
		x.keepSoft(was, plain(r.Value))
	}
	s.all[id] = x
	if delete(s.ongoing, id); x.state == Ongoing {
		s.ongoing[id] = true
	}
}

// Deadline returns when transactions are to be looked through next, in O(1).
func (s *Shard) Deadline() (time.Time, bool) {
	switch {
	case s.abortAt.IsZero():
		return s.dropAt, !s.dropAt.IsZero()
	case s.dropAt.IsZero() || s.abortAt.Before(s.dropAt):
		return s.abortAt, true
	}
	return s.dropAt, true
}

// arm has a look at the transactions taken at intervals, as long as there are some.
func (s *Shard) arm(now time.Time) {
	keep := func(at *time.Time, needed bool, interval time.Duration) {
		switch {
		case !needed:
			*at = time.Time{}
		case at.IsZero():
			*at = now.Add(max(interval, time.Millisecond))
		}
	}
	keep(&s.abortAt, len(s.all) > 0, s.o.AbortInterval)
	keep(&s.dropAt, len(s.all) > 0, s.o.ExpiryInterval)
}

// tick aborts transactions that take too long, and forgets ids that were not used for long.
func (t *turn) tick() {
	if !t.abortAt.IsZero() && !t.abortAt.After(t.now) {
		t.abortAt = time.Time{}
		for _, id := range slices.Sorted(maps.Keys(t.ongoing)) {
			if x := t.all[id]; x.timeoutMillis != noTimeout && x.started+int64(x.timeoutMillis) < t.millis() && !mutant.On(mutant.TimeoutIgnored) {
				t.fence(x)
			}
		}
	}
	if !t.dropAt.IsZero() && !t.dropAt.After(t.now) {
		t.dropAt = time.Time{}
		for _, id := range slices.Sorted(maps.Keys(t.all)) {
			if x := t.all[id]; x.state.resting() && x.updated <= t.millis()-t.o.Expiration.Milliseconds() {
				t.out.Records = append(t.out.Records, coordinator.Record{Key: key(id), Timestamp: t.millis()})
			}
		}
	}
}

// describe handles a DescribeTransactions request for one id.
func (t *turn) describe(e Describe) Description {
	x := t.all[e.TransactionalID]
	switch {
	case e.TransactionalID == "":
		return Description{Code: kerr.InvalidRequest.Code}
	case x == nil:
		return Description{Code: kerr.TransactionalIDNotFound.Code}
	}
	return Description{Producer: Producer{x.producerID, x.epoch}, State: x.state, TimeoutMillis: x.timeoutMillis, Started: x.started, Partitions: x.list()}
}

// list handles a ListTransactions request (TransactionStateManager.listTransactionStates).
func (t *turn) list(e List) []Listed {
	states := map[State]bool{}
	for _, name := range e.States {
		if s, ok := stateOf(name); ok {
			states[s] = true
		}
	}
	var found []Listed
	for _, id := range slices.Sorted(maps.Keys(t.all)) {
		x := t.all[id]
		if len(e.ProducerIDs) > 0 && !slices.Contains(e.ProducerIDs, x.producerID) || len(e.States) > 0 && !states[x.state] ||
			e.LongerThan >= 0 && t.millis()-x.started <= e.LongerThan.Milliseconds() || e.Match != nil && !e.Match(id) {
			continue
		}
		found = append(found, Listed{id, x.producerID, x.state})
	}
	return found
}

// UnknownStates returns those names of states that there are not, each once.
func UnknownStates(names []string) []string {
	var unknown []string
	seen := map[string]bool{}
	for _, name := range names {
		if _, ok := stateOf(name); !ok && !seen[name] {
			seen[name] = true
			unknown = append(unknown, name)
		}
	}
	return unknown
}
