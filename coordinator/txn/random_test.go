package txn

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// instance is a producer that uses a transactional id until it hears that another one does.
type instance struct {
	id       string
	session  int      // of all sessions of the id, in the order in which they began; 0: none yet
	has      Producer // ID noID: nothing yet
	recovers bool     // it goes on after an error (KIP-360)
	old      bool     // it has used its epoch for a transaction of version 0
	tag      *tag     // its transaction, nil: none
	added    []Partition
	ending   *End // what it sent last, until that is answered
	inFlight int  // batches that are neither appended nor refused
	conn     Conn // its connection to the coordinator, NoConn: none yet
}

func newInstance(id string) *instance { return &instance{id: id, has: Producer{noID, noEpoch}} }

// TestRandomRuns plays producers that lose answers, come late, are fenced and die against a coordinator that crashes, with
// logs that take markers as Kafka's do. See sim for what must be true.
func TestRandomRuns(t *testing.T) {
	seeds := 250
	if testing.Short() {
		seeds = 40
	}
	all := map[string]int{}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			for what, n := range randomRun(t, seed) {
				all[what] += n
			}
		})
	}
	for _, what := range []string{ // of which a few seeds do not have all

		"CompleteAbort", "CompleteCommit", "Empty", "forgotten", "rollover to Empty", "rollover to CompleteCommit", "rollover to CompleteAbort",
		"marker of a former coordinator", "told commit v0", "told commit v2", "told abort v0", "told abort v2", "refused late End", "refused late Add", "late Init", "late Add", "late End",
		"late batch refused", "late batch taken", "a fenced producer is refused", "session", "gone on", "aborted without its client",
	} {
		if all[what] == 0 && !testing.Short() {
			t.Errorf("the runs never came to this: %s", what)
		}
	}
	if testing.Verbose() {
		for _, what := range slices.Sorted(maps.Keys(all)) {
			t.Log(what, all[what])
		}
	}
}

func randomRun(t *testing.T, seed uint64) map[string]int {
	w := newSim(t, seed)
	for i := range 6 {
		w.producers = append(w.producers, newInstance(fmt.Sprint("x", i%3)))
	}
	for range 500 {
		w.step()
		if w.one(10) {
			w.same()
		}
	}
	w.rest()
	return w.seen
}

// step does one thing.
func (w *sim) step() {
	switch w.rnd.IntN(30) {
	case 0:
		w.load()
	case 1:
		w.compact()
	case 2:
		if w.one(4) {
			w.o.Level = int16(w.rnd.IntN(3))
			w.handle(Level(w.o.Level))
		}
	case 3:
		w.advance(time.Duration(w.rnd.IntN(6000)) * time.Millisecond)
	case 4:
		if w.one(5) {
			w.advance(time.Duration(w.rnd.IntN(400)) * time.Second)
		}
	case 5, 6, 7, 8, 9, 10, 11, 12, 13:
		w.work()
	case 14, 15:
		w.arrive()
	default:
		i := w.producers[w.rnd.IntN(len(w.producers))]
		if w.one(60) {
			w.die(i)
			break
		}
		w.act(i)
	}
}

// arrive delivers one thing that was under way.
func (w *sim) arrive() {
	if n := len(w.late); n > 0 {
		i := w.rnd.IntN(n)
		f := w.late[i]
		w.late = slices.Delete(w.late, i, i+1)
		f()
	}
}

// die puts a new producer in the place of one. What that sent may still arrive.
func (w *sim) die(i *instance) {
	if at := slices.Index(w.producers, i); at >= 0 {
		w.producers[at] = newInstance(i.id)
	}
}

// act does the next thing of a producer.
func (w *sim) act(i *instance) {
	has := i.has
	switch {
	case has.ID == noID:
		if w.one(8) { // else the others would never get far
			w.begin(i, nil)
		}
	case i.recovers:
		w.begin(i, &has)
	case i.ending != nil:
		if w.one(4) {
			i.ending.Commit = !i.ending.Commit // it has not heard what became of the other
		}
		w.end(i)
	case i.tag != nil && (i.inFlight > 0 && i.tag.version < 2 || !w.one(4)):
		w.produce(i)
	case i.tag != nil:
		i.ending = &End{TransactionalID: i.id, Producer: has, Commit: !w.one(3), Version: i.tag.version, NewID: noID}
		w.end(i)
	case w.one(10):
		w.begin(i, &has)
	default:
		version := int16(0)
		if (w.o.Level >= 2) != w.one(8) {
			version = 2
		}
		if i.old && version >= 2 {
			// With the epoch of an older transaction it could write where that has no marker yet. Kafka's clients do this too.
			w.begin(i, &has)
			break
		}
		w.tags++
		i.old = version < 2
		i.tag, i.added = &tag{n: w.tags, version: version}, nil
	}
}

// over is the connection of a producer. It may give that up, when what it sends over it is sent again over the next one: the
// first may still come then.
func (w *sim) over(i *instance, giveUp bool) Conn {
	if i.conn == NoConn {
		w.conns++
		i.conn = w.conns
	}
	c := i.conn
	if giveUp {
		w.conns++
		i.conn = w.conns
	}
	return c
}

// hungUp tells whether a request was late. Its connection is closed.
func (w *sim) hungUp(i *instance, body, reply any) bool {
	var c Conn
	switch e := body.(type) {
	case Init:
		c = e.Conn
	case Add:
		c = e.Conn
	case End:
		c = e.Conn
	}
	var late bool
	switch r := reply.(type) {
	case Initialized:
		late = r.Late
	case Added:
		late = r.Late
	case Ended:
		late = r.Late
	}
	if !late {
		return false
	}
	if w.seen["late "+strings.TrimPrefix(fmt.Sprintf("%T", body), "txn.")]++; c == i.conn {
		i.conn = NoConn
	}
	return true
}

// call sends a request as often as the broker does, and checks the answer that was given, heard or not.
func (w *sim) call(i *instance, t *tag, body any) (reply any, heard bool) {
	w.t.Helper()
	if !w.calm && w.one(20) {
		return nil, false
	}
	reply, heard = w.handle(body)
	needs := func() bool {
		switch r := reply.(type) {
		case Initialized:
			return r.NeedsID
		case Ended:
			return r.NeedsID
		}
		return false
	}
	if needs() {
		for w.one(2) {
			w.work()
		}
		if !w.calm && w.one(4) {
			w.advance(20 * time.Second)
		}
		w.ids++
		switch e := body.(type) {
		case Init:
			e.NewID = w.ids
			body = e
		case End:
			e.NewID = w.ids
			body = e
		}
		if reply, heard = w.handle(body); needs() {
			w.fail("%+v still needs a producer id", body)
		}
	}
	if reply == nil {
		return nil, false
	}
	if w.hungUp(i, body, reply) {
		return nil, false
	}
	w.note("%p %+v %+v: %s heard %v", i, body, t, showReply(reply), heard)
	w.judge(i, t, body, reply)
	return reply, heard
}

// judge checks an answer.
func (w *sim) judge(i *instance, t *tag, body, reply any) {
	w.t.Helper()
	var code int16
	newest, known := w.newest[i.id]
	fenced := known && i.session < newest
	switch r := reply.(type) {
	case Initialized:
		if code = r.Code; code != 0 {
			break
		}
		w.grant(i, r.Producer)
		switch {
		case body.(Init).Expected == nil:
			w.seen["session"]++
			w.sessions++
			i.session, fenced = w.sessions, false
			w.newest[i.id] = i.session
		case !known:
			w.newest[i.id] = i.session // the id was forgotten in between
		default:
			w.seen["gone on"]++
		}
	case Added:
		code = r.Code
	case Ended:
		if code = r.Code; code != 0 {
			break
		}
		told := "abort"
		if body.(End).Commit {
			told = "commit"
		}
		if t.told != "" && t.told != told || t.outcome != "" && t.outcome != told {
			w.fail("the client of transaction %d hears %s, before it heard %q, and the logs have %q", t.n, told, t.told, t.outcome)
		}
		t.told = told
		w.seen[fmt.Sprintf("told %s v%d", told, t.version)]++
		if r.ID != noID {
			w.grant(i, r.Producer)
		}
	}
	switch {
	case fenced && code == 0:
		w.fail("session %d of %s has success with %+v, session %d has begun", i.session, i.id, body, newest)
	case fenced:
		w.seen["a fenced producer is refused"]++
	}
}

// grant notes that a producer has an epoch, which no other ever has.
func (w *sim) grant(i *instance, p Producer) {
	w.t.Helper()
	if other := w.granted[p]; other != nil && other != i || p.Epoch < 0 || p.Epoch > lastEpoch {
		w.fail("%d/%d is given to session %d of %s, and was to %+v", p.ID, p.Epoch, i.session, i.id, other)
	}
	w.granted[p] = i
}

// begin sends InitProducerId.
func (w *sim) begin(i *instance, expected *Producer) {
	w.t.Helper()
	e := Init{TransactionalID: i.id, TimeoutMillis: int32(3000 + w.rnd.IntN(12000)), NewID: noID, Expected: expected, Conn: w.over(i, false)}
	if expected != nil && w.one(6) {
		w.late = append(w.late, func() { w.call(i, nil, e) })
		w.over(i, true)
		e.Conn = i.conn
	}
	reply, heard := w.call(i, nil, e)
	if !heard {
		return
	}
	switch r := reply.(Initialized); r.Code {
	case 0:
		i.has, i.recovers, i.old, i.tag, i.ending = r.Producer, false, false, nil, nil
	case kerr.ConcurrentTransactions.Code:
	case kerr.ProducerFenced.Code:
		w.die(i)
	default:
		w.fail("%+v is answered with %s", e, showCode(r.Code))
	}
}

// refused has a producer do what its request's error asks for.
func (w *sim) refused(i *instance, code int16) {
	w.t.Helper()
	switch code {
	case kerr.ConcurrentTransactions.Code:
	case kerr.ProducerFenced.Code, kerr.InvalidProducerIDMapping.Code, kerr.InvalidTxnState.Code, kerr.TransactionAbortable.Code:
		if i.recovers = w.one(2); !i.recovers {
			w.die(i)
		}
	default:
		w.fail("a producer hears %s", showCode(code))
	}
}

// end sends EndTxn. It may arrive once more, whenever that is (KAFKA-17754).
func (w *sim) end(i *instance) {
	w.t.Helper()
	e, t := *i.ending, i.tag
	if giveUp := w.one(3); giveUp {
		late := e
		late.Conn = w.over(i, true)
		w.late = append(w.late, func() { w.again(i, t, late) })
	}
	e.Conn = w.over(i, false)
	reply, heard := w.call(i, t, e)
	if !heard {
		return
	}
	r := reply.(Ended)
	if r.Code != 0 {
		w.refused(i, r.Code)
		return
	}
	if i.tag, i.ending = nil, nil; t.version >= 2 {
		i.has = r.Producer
	}
}

// again delivers a request of a transaction once more. Is that decided, then it must change nothing.
func (w *sim) again(i *instance, t *tag, body any) {
	w.t.Helper()
	decided, before := t.told != "" || t.outcome != "", len(w.journal)
	reply, _ := w.call(i, t, body)
	if !decided || reply == nil {
		return
	}
	if len(w.journal) != before {
		w.fail("%+v comes again after the end of transaction %d and changes %s", body, t.n, showRecord(w.journal[before]))
	}
	switch r := reply.(type) {
	case Added:
		if r.Code == 0 && t.version >= 2 { // before that the next transaction may have the same partitions
			w.fail("%+v succeeds after the end of transaction %d", body, t.n)
		}
		w.seen["refused late Add"]++
	case Ended:
		if r.Code != 0 {
			w.seen["refused late End"]++
		}
	}
}

// batch is one on its way into a partition.
type batch struct {
	*instance
	tag       *tag
	has       Producer
	partition Partition
	open      bool // the transaction was open there when it came; else the coordinator was asked
	marks     int  // what the log knew before the coordinator was asked
}

// produce adds a partition to a transaction, or writes into one, as the broker does for either version.
func (w *sim) produce(i *instance) {
	w.t.Helper()
	p := w.partitions()[0]
	a := Add{TransactionalID: i.id, Producer: i.has, Partitions: []Partition{p}, Version: i.tag.version}
	// Some forget to add it. Where the transaction before has no marker yet nobody would notice, nor does Kafka.
	forgets := !w.calm && w.one(8) && len(w.log(p, i.has.ID).open) == 0
	if old := i.tag.version < 2; old && !slices.Contains(i.added, p) && !forgets {
		a.Partitions = append(w.partitions(), p)
		if w.one(4) {
			t, late := i.tag, a
			late.Conn = w.over(i, true)
			w.late = append(w.late, func() { w.again(i, t, late) })
		}
		a.Conn = w.over(i, false)
		if reply, heard := w.call(i, i.tag, a); heard {
			if code := reply.(Added).Code; code != 0 {
				w.refused(i, code)
				return
			}
			i.added = append(i.added, a.Partitions...)
		}
		return
	} else if a.Verify = old; !old && w.one(4) {
		t := i.tag
		w.late = append(w.late, func() { w.again(i, t, a) })
	}
	l := w.log(p, i.has.ID)
	b := batch{instance: i, tag: i.tag, has: i.has, partition: p, open: len(l.open) > 0 && l.epoch == i.has.Epoch, marks: l.marks}
	if !b.open {
		reply, heard := w.call(i, i.tag, a)
		if !heard {
			return
		}
		r := reply.(Added)
		code := r.Code
		if code == 0 && a.Verify {
			code = r.Codes[0]
		}
		if code != 0 {
			w.refused(i, code)
			return
		}
	}
	if !w.one(3) {
		w.write(b)
		return
	}
	i.inFlight++
	w.late = append(w.late, func() {
		i.inFlight--
		if w.write(b) {
			w.seen["late batch taken"]++
		} else {
			w.seen["late batch refused"]++
		}
	})
}

// write appends a batch, if the log takes it.
func (w *sim) write(b batch) bool {
	w.t.Helper()
	l := w.log(b.partition, b.has.ID)
	ongoing := len(l.open) > 0 && l.epoch == b.has.Epoch
	if b.has.Epoch < l.epoch || !ongoing && (b.open || l.marks != b.marks) {
		return false
	}
	newest, known := w.newest[b.id]
	switch {
	case known && b.session < newest:
		w.fail("session %d of %s writes into %v, session %d has begun", b.session, b.id, b.partition, newest)
	case slices.Contains(b.tag.ended, b.partition):
		w.fail("transaction %d is written into %v after its %s", b.tag.n, b.partition, b.tag.outcome)
	case len(l.open) > 0 && l.open[0] != b.tag:
		w.fail("transaction %d is written into %v, where %d is open", b.tag.n, b.partition, l.open[0].n)
	}
	w.note("transaction %d written into %v at %d/%d", b.tag.n, b.partition, b.has.ID, b.has.Epoch)
	b.tag.wrote = true
	l.epoch, l.open = b.has.Epoch, []*tag{b.tag}
	return true
}

// settle lets everything arrive and every transaction end.
func (w *sim) settle() {
	w.t.Helper()
	w.calm = true
	for range 1000 {
		for len(w.late) > 0 {
			w.arrive()
		}
		for len(w.errands) > 0 || len(w.posted) > 0 {
			w.work()
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(w.shard.all)), func(x *transaction) bool { return !x.state.resting() }) {
			return
		}
		w.advance(w.o.AbortInterval)
	}
	w.fail("the coordinator does not come to rest:\n%s", hardState(w.shard, w.journal))
}

// rest checks that nothing hangs when everything has arrived, and that each id can be used.
func (w *sim) rest() {
	w.t.Helper()
	w.settle()
	for p, logs := range w.logs {
		for id, l := range logs {
			if len(l.open) > 0 {
				w.fail("transaction %d of producer id %d hangs in %v", l.open[0].n, id, p)
			}
		}
	}
	w.same()
	for n := range 3 {
		i := newInstance(fmt.Sprint("x", n))
		for version := range int16(3) {
			w.begin(i, nil)
			t := &tag{n: -1, version: version &^ 1}
			for i.tag, i.added = t, nil; !t.wrote && i.tag == t && !i.recovers; {
				w.produce(i)
				for len(w.late) > 0 {
					w.arrive()
				}
			}
			i.ending = &End{TransactionalID: i.id, Producer: i.has, Commit: true, Version: t.version, NewID: noID}
			w.end(i)
			w.settle()
			if t.outcome != "commit" {
				w.fail("a transaction of %s that nothing disturbs ends with %q", i.id, t.outcome)
			}
		}
	}
}
