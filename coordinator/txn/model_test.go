package txn

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
)

// sim is a coordinator with its journal, the partitions of a cluster, and what must be true of both. It is told nothing of
// how the coordinator decides: it sees requests, answers, records and markers.
type sim struct {
	t       fataler
	rnd     *rand.Rand
	o       Options
	shard   *Shard
	journal []coordinator.Record
	now     time.Time
	ids     int64

	coordinatorEpoch int32
	errands          []*errand
	posted           []MarkersWritten // on their way, and copies of those that came
	late             []func()         // requests and batches that the network still has
	logs             map[Partition]map[int64]*producerLog

	producers      []*instance
	tags, sessions int
	conns          Conn // the newest connection
	calm           bool // nothing is lost, nothing fails

	granted map[Producer]*instance
	newest  map[string]int // number of the newest session of an id
	used    map[int64]bool // producer ids
	last    map[string]*transaction
	trace   []string
	seen    map[string]int // what happened, for the test of the test
}

// fataler is the part of testing.T that a sim needs.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// errand is a WriteMarkers at work.
type errand struct {
	WriteMarkers
	left             []Partition
	coordinatorEpoch int32
}

// producerLog is what a partition knows of a producer id.
type producerLog struct {
	epoch            int16
	coordinatorEpoch int32
	marks            int
	open             []*tag
}

// tag is a transaction as its client sees it.
type tag struct {
	n       int
	version int16
	outcome string // by the markers
	told    string // by the answer to End
	wrote   bool
	ended   []Partition // that have its marker
}

func (w *sim) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.trace[max(len(w.trace)-60, 0):], "\n"))
}

// note remembers what happened, for when something is wrong.
func (w *sim) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *sim) one(n int) bool { return w.rnd.IntN(n) == 0 }

func newSim(t fataler, seed uint64) *sim {
	w := &sim{
		t: t, rnd: rand.New(rand.NewPCG(seed, 7)), o: DefaultOptions(), now: time.UnixMilli(1_700_000_000_000), ids: 1000,
		logs: map[Partition]map[int64]*producerLog{}, granted: map[Producer]*instance{}, newest: map[string]int{},
		used: map[int64]bool{}, last: map[string]*transaction{}, seen: map[string]int{},
	}
	w.o.Level = []int16{0, 2, 2, 2}[w.rnd.IntN(4)]
	w.o.Expiration, w.o.ExpiryInterval = 5*time.Minute, time.Minute
	for i := range 3 {
		if id := int64(50 + i); w.one(2) { // an id that was much used
			x := &transaction{
				id: fmt.Sprint("x", i), producerID: id, previousID: id, nextID: noID, epoch: lastEpoch - int16(w.rnd.IntN(6)), timeoutMillis: 9000,
				state: CompleteCommit, started: w.now.UnixMilli(), updated: w.now.UnixMilli(), version: 2,
			}
			w.keep([]coordinator.Record{x.record(2)})
		}
	}
	w.load()
	return w
}

// load starts the coordinator again. Its former errands are still at work, or died with it.
func (w *sim) load() {
	w.seen["load"]++
	w.note("load")
	w.coordinatorEpoch++
	w.now = w.now.Add(time.Millisecond * time.Duration(100+w.rnd.IntN(100)))
	if w.one(2) {
		w.errands = nil
	}
	w.o.LoadedAfter = w.conns
	w.shard = replay(w.o, w.journal)
	w.ask(w.shard.Loaded(w.now))
}

// ask takes the errands of a result.
func (w *sim) ask(r coordinator.Result) {
	for _, e := range r.Errands {
		m := e.(WriteMarkers)
		w.errands = append(w.errands, &errand{m, slices.Clone(m.Partitions), w.coordinatorEpoch})
	}
}

// handle hands an event to the coordinator. The answer may be lost, with or without what it says. That it was given tells
// the second result.
func (w *sim) handle(body any) (reply any, heard bool) {
	chance := w.rnd.IntN(100)
	if w.calm {
		chance = 50
	}
	r := w.shard.Handle(w.now, coordinator.Event{Token: "t", Body: body})
	for _, rec := range r.Records {
		w.shard.Apply(rec)
	}
	if chance < 2 { // the journal failed
		w.load()
		return nil, false
	}
	w.keep(r.Records)
	if chance < 4 { // it failed after it had written them
		w.load()
		return nil, false
	}
	w.ask(r)
	if len(r.Replies) > 0 {
		reply = r.Replies[0].Body
	}
	return reply, chance < 90
}

// keep writes records down and checks that they follow from those before.
func (w *sim) keep(records []coordinator.Record) {
	w.t.Helper()
	for _, r := range records {
		w.journal = append(w.journal, r)
		id, known, ok := readKey(r.Key)
		if !known || !ok {
			w.fail("a key that cannot be read: %x", r.Key)
		}
		was := w.last[id]
		if r.Value == nil {
			if was == nil || !was.state.resting() {
				w.fail("%s is forgotten as %+v", id, was)
			}
			w.seen["forgotten"]++
			delete(w.last, id)
			delete(w.newest, id)
			continue
		}
		x, ok := read(id, r.Value)
		if !ok {
			w.fail("a value of %s that cannot be read: %x", id, r.Value)
		}
		w.note("record %s", showRecord(r))
		w.follows(was, x)
		w.last[id] = x
		w.used[x.producerID] = true
	}
}

// follows checks a step of a transactional id (Kafka's TransactionState.VALID_PREVIOUS_STATES, and more).
func (w *sim) follows(was, x *transaction) {
	w.t.Helper()
	if was == nil {
		if w.used[x.producerID] {
			w.fail("%s begins with producer id %d, which is used", x.id, x.producerID)
		}
		return
	}
	before := map[State][]State{
		Empty: {Empty, CompleteCommit, CompleteAbort}, Ongoing: {Ongoing, Empty, CompleteCommit, CompleteAbort}, PrepareCommit: {Ongoing},
		PrepareAbort: {Ongoing, Empty, CompleteCommit, CompleteAbort}, CompleteCommit: {PrepareCommit}, CompleteAbort: {PrepareAbort},
	}
	if !slices.Contains(before[x.state], was.state) {
		w.fail("%s goes from %v to %v", x.id, was.state, x.state)
	}
	switch {
	case x.producerID == was.producerID && x.epoch < was.epoch, x.producerID != was.producerID && (x.epoch != 0 || w.used[x.producerID]):
		w.fail("%s goes from %d/%d to %d/%d", x.id, was.producerID, was.epoch, x.producerID, x.epoch)
	case x.producerID != was.producerID:
		w.seen["rollover to "+x.state.String()]++
	}
	switch {
	case x.state.preparing() && !maps.Equal(x.partitions, was.partitions), was.state == Ongoing && x.state == Ongoing && (!x.hasAll(was.list()) || x.started != was.started):
		w.fail("%s goes from %+v to %+v", x.id, was, x)
	case was.state.preparing():
		for p := range was.partitions {
			if l := w.logs[p][was.producerID]; l != nil && len(l.open) > 0 {
				w.fail("%s is %v, and transaction %d is open in %v", x.id, x.state, l.open[0].n, p)
			}
		}
	}
	w.seen[x.state.String()]++
}

// mark writes one marker, as a log does; false means that it must be tried again.
func (w *sim) mark(e *errand, p Partition) (done bool) {
	w.t.Helper()
	l := w.log(p, e.ID)
	switch {
	case w.one(6):
		return false
	case e.Epoch < l.epoch || e.Version >= 2 && e.Epoch == l.epoch:
		return true // the broker takes it to be there; follows looks when the transaction is complete
	case e.coordinatorEpoch < l.coordinatorEpoch:
		w.seen["marker of a former coordinator"]++
		return false
	}
	outcome := "abort"
	if e.Commit {
		outcome = "commit"
	}
	for _, t := range l.open {
		if t.outcome != "" && t.outcome != outcome || t.told != "" && t.told != outcome {
			w.fail("transaction %d ends with %s in %v, elsewhere with %q, its client heard %q", t.n, outcome, p, t.outcome, t.told)
		}
		t.ended = append(t.ended, p)
		if t.outcome = outcome; outcome == "abort" && t.told == "" {
			w.seen["aborted without its client"]++
		}
	}
	w.seen["marker"]++
	w.note("%s marker %d/%d in %v, transactions %v", outcome, e.ID, e.Epoch, p, l.open)
	*l = producerLog{epoch: e.Epoch, coordinatorEpoch: e.coordinatorEpoch, marks: l.marks + 1}
	return true
}

func (w *sim) log(p Partition, id int64) *producerLog {
	if w.logs[p] == nil {
		w.logs[p] = map[int64]*producerLog{}
	}
	if w.logs[p][id] == nil {
		w.logs[p][id] = &producerLog{epoch: -1, coordinatorEpoch: -1}
	}
	return w.logs[p][id]
}

// work does a piece of one errand, or delivers what one said, perhaps again.
func (w *sim) work() {
	if n := len(w.posted); n > 0 && w.one(2) {
		i := w.rnd.IntN(n)
		m := w.posted[i]
		if !w.one(3) {
			w.posted = slices.Delete(w.posted, i, i+1)
		}
		w.handle(m)
		return
	}
	if len(w.errands) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.errands))
	e := w.errands[i]
	if n := len(e.left); n > 0 {
		j := w.rnd.IntN(n)
		p := e.left[j]
		if w.mark(e, p) {
			e.left = slices.Delete(e.left, j, j+1)
		} else if e.coordinatorEpoch < w.log(p, e.ID).coordinatorEpoch {
			w.errands = slices.Delete(w.errands, i, i+1)
			return
		}
	}
	if len(e.left) == 0 {
		w.errands = slices.Delete(w.errands, i, i+1)
		w.posted = append(w.posted, e.Written())
	}
}

// compact leaves the last record of each key, and not every tombstone.
func (w *sim) compact() {
	last := map[string]int{}
	for i, r := range w.journal {
		last[string(r.Key)] = i
	}
	var kept []coordinator.Record
	for i, r := range w.journal {
		if last[string(r.Key)] == i && (r.Value != nil || w.one(2)) {
			kept = append(kept, r)
		}
	}
	w.journal = kept
}

// advance lets time pass, with a tick at each deadline on the way.
func (w *sim) advance(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for {
		at, ok := w.shard.Deadline()
		if !ok && len(w.shard.all) > 0 || ok && at.After(w.now.Add(max(w.o.AbortInterval, w.o.ExpiryInterval))) {
			w.fail("with %d ids the deadline is %v %v", len(w.shard.all), at, ok)
		}
		if !ok || at.After(end) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		aborts := !w.shard.abortAt.After(w.now)
		if _, heard := w.handle(coordinator.Tick{}); !heard {
			continue
		}
		for id, x := range w.shard.all {
			if aborts && x.state == Ongoing && w.now.UnixMilli()-x.started > int64(x.timeoutMillis) {
				w.fail("%s is open for %d ms of %d after a tick", id, w.now.UnixMilli()-x.started, x.timeoutMillis)
			}
		}
	}
	if end.After(w.now) {
		w.now = end
	}
}

// same checks that a coordinator loaded from the journal has the same state, and would answer the same.
func (w *sim) same() {
	w.t.Helper()
	if live, again := hardState(w.shard, w.journal), hardState(replay(w.o, w.journal), w.journal); live != again {
		w.fail("live and loaded state differ\nlive:\n%s\nloaded:\n%s", live, again)
	}
	for range 5 {
		live, loaded := *w.shard, replay(w.o, w.journal)
		live.all, live.ongoing, live.asked = maps.Clone(live.all), maps.Clone(live.ongoing), maps.Clone(live.asked)
		asked := loaded.Loaded(w.now)
		if n := len(asked.Errands); n != len(live.asked) {
			w.fail("a load asks for the markers of %d transactions, %d are wanted", n, len(live.asked))
		}
		for id, x := range live.all { // what Kafka has in memory only
			again := *loaded.all[id]
			again.keepSoft(x, true)
			loaded.all[id] = &again
		}
		live.abortAt, live.dropAt, loaded.abortAt, loaded.dropAt = w.now, w.now, w.now, w.now
		id := fmt.Sprint("x", w.rnd.IntN(3))
		body := w.probe(id)
		if _, ok := body.(MarkersWritten); ok && live.asked[id] != nil {
			body = MarkersWritten{TransactionalID: id, of: live.asked[id]}
			loaded.asked[id] = live.asked[id]
		}
		e := coordinator.Event{Token: "t", Body: body}
		if a, b := forget(live.Handle(w.now, e)), forget(loaded.Handle(w.now, e)); !reflect.DeepEqual(a, b) {
			w.fail("%T %+v is answered with\n%+v\nand after a load with\n%+v", body, body, a, b)
		}
	}
}

// forget takes out of a result what only its coordinator knows.
func forget(r coordinator.Result) coordinator.Result {
	for i, e := range r.Errands {
		m := e.(WriteMarkers)
		m.of = nil
		r.Errands[i] = m
	}
	return r
}

// probe makes up a request about an id, near to what it has.
func (w *sim) probe(id string) any {
	p := Producer{int64(50 + w.rnd.IntN(3)), int16(w.rnd.IntN(3))}
	if x := w.shard.all[id]; x != nil {
		p = Producer{[]int64{x.producerID, x.producerID, x.previousID, x.nextID}[w.rnd.IntN(4)], x.epoch + int16(w.rnd.IntN(4)-2)}
	}
	version := []int16{0, 2}[w.rnd.IntN(2)]
	newID := []int64{noID, 999}[w.rnd.IntN(2)]
	switch w.rnd.IntN(9) {
	case 0:
		return Init{TransactionalID: id, TimeoutMillis: 1000, NewID: newID}
	case 1, 2:
		return Init{TransactionalID: id, TimeoutMillis: 1000, NewID: newID, Expected: &p}
	case 3:
		return Add{TransactionalID: id, Producer: p, Partitions: w.partitions(), Version: version, Verify: w.one(2)}
	case 4, 5:
		return End{TransactionalID: id, Producer: p, Commit: w.one(2), Version: version, NewID: newID}
	case 6:
		return Describe{id}
	case 7:
		return MarkersWritten{TransactionalID: id, Producer: p}
	}
	return coordinator.Tick{}
}

func (w *sim) partitions() []Partition {
	all := []Partition{{"a", 0}, {"a", 1}, {"b", 0}, {"c", 0}}
	w.rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+w.rnd.IntN(len(all))]
}
