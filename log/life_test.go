package log

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// life is a store that lives through what a broker does to one, in random order. With
// faults, calls of the disk fail, and that ends nothing: a broker goes on too.
type life struct {
	*rig
	rng    *rand.Rand
	epoch  int32
	disk   *vfs.Crash
	record func(*vfs.Crash) // told of each disk that the life goes on with; may be nil
	faults []vfs.Rule       // none: the disk works, and nothing may fail
	calls  []vfs.Op         // of disks before the current one, with faults only
}

// lifeTopics are its logs; the second is irreplaceable, the last compacted.
var lifeTopics = [...]string{"a", "b", "c", "compacted"}

// operation is one thing that happens in a life, more often with more weight.
type operation struct {
	name   string
	weight int
	do     func(*life, string) error
}

// operations are all that happens. Each gets a random topic that exists.
func operations() []operation {
	return []operation{
		{"append", 20, (*life).appendPlain},
		{"append idempotent", 14, (*life).appendIdempotent},
		{"append a duplicate", 2, (*life).appendAgain},
		{"append in a transaction", 8, (*life).appendTransactional},
		{"end a transaction", 8, (*life).endTransaction},
		{"append several batches", 5, (*life).appendSeveral},
		{"append to all logs at once", 5, (*life).appendToAll},
		{"fill segments", 5, (*life).fill},
		{"let time pass", 8, (*life).wait},
		{"read", 6, (*life).read},
		{"look up a time", 4, (*life).lookUp},
		{"delete records", 5, (*life).deleteRecords},
		{"retention by size", 3, (*life).retainBySize},
		{"retention by time", 2, (*life).retainByTime},
		{"flush often", 2, (*life).flushOften},
		{"remove a log", 4, (*life).removeLog},
		{"stop", 4, (*life).stop},
		{"kill", 2, (*life).killed},
		{"power cut", 3, (*life).powerCut},
		{"an interrupted compaction of Kafka's", 3, (*life).kafkaCompaction},
	}
}

func newLife(b *rig, seed uint64, faults []vfs.Rule, record func(*vfs.Crash)) *life {
	f := &life{rig: b, rng: rand.New(rand.NewPCG(seed, 1)), epoch: 3, record: record, faults: faults}
	f.c, f.every, f.ledgers, f.known, f.whole = small(), time.Minute, map[string]*ledger{}, b.current, seed%3 == 0
	f.boot(vfs.NewCrash())
	return f
}

// current tells whether an id is that of a topic that exists.
func (b *rig) current(id [16]byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.ledgers {
		if g.id == id {
			return !g.gone
		}
	}
	return false
}

// boot goes on with a disk. The calls of faults count over all disks.
func (f *life) boot(disk *vfs.Crash) {
	was, _ := f.fs.(*vfs.Fault)
	f.disk, f.fs = disk, disk
	if len(f.faults) > 0 {
		if was != nil {
			f.calls = append(f.calls, was.Calls()...)
		}
		wrapped := vfs.NewFault(disk)
		wrapped.Trace(callers)
		var left []vfs.Rule
		for _, rule := range f.faults {
			nth, met := max(1, rule.Nth), len(matching(f.calls, &rule))
			if rule.Call > 0 {
				rule.Call -= len(f.calls)
			} else if rule.Nth = nth - met; rule.Times < 0 {
				rule.Nth = max(1, rule.Nth) // a disk that is dead stays dead
			}
			if max(rule.Call, rule.Nth) > 0 {
				left = append(left, rule)
			}
		}
		wrapped.SetRules(left...)
		f.fs = wrapped
	}
	if f.record != nil {
		f.record(disk)
	}
	f.open()
	f.epoch++
}

// allCalls are the calls of all disks; only with a fault.
func (f *life) allCalls() []vfs.Op {
	return append(slices.Clip(f.calls), f.fs.(*vfs.Fault).Calls()...)
}

// live does a number of random operations and stops cleanly. What goes wrong without
// a fault fails the test.
func (f *life) live(steps int) {
	total := 0
	for _, o := range operations() {
		total += o.weight
	}
	for range steps {
		if f.s == nil && !f.open() {
			return // the one fault was at a start, and a start is not the first: it does not stay broken
		}
		n := f.rng.IntN(total)
		for _, o := range operations() {
			if n -= o.weight; n >= 0 {
				continue
			}
			if err := o.do(f, f.pick()); err != nil && len(f.faults) == 0 {
				f.t.Errorf("%s: %v", o.name, err)
			}
			break
		}
	}
	if f.s != nil {
		if err := f.s.Close(); err != nil && len(f.faults) == 0 {
			f.t.Error(err)
		}
	}
}

// pick chooses a topic. One that was removed is made again, with another id.
func (f *life) pick() string {
	topic := lifeTopics[f.rng.IntN(len(lifeTopics))]
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.ledgers[topic]
	if g == nil || g.removed {
		g = f.renewLocked(topic)
		g.compact, g.pinned = topic == lifeTopics[len(lifeTopics)-1], topic == lifeTopics[1]
	}
	return topic
}

func (f *life) send(topic string, raw []byte, o AppendOptions) error {
	o.LeaderEpoch = f.epoch
	if f.ledger(topic).gone {
		return nil // it could not be removed, and nobody uses it any more
	}
	_, err := f.append(topic, raw, o)
	return err
}

// some is a batch of up to three records.
func (f *life) some(o batch.Options) []byte {
	return data(o, time.Now().UnixMilli(), f.rng.IntN(1000), 1+f.rng.IntN(3))
}

func (f *life) durable() bool { return f.rng.IntN(2) == 0 }

func (f *life) appendPlain(topic string) error {
	return f.send(topic, f.some(batch.Plain()), AppendOptions{Durable: f.durable()})
}

// last is the header of the last batch of a producer, nil if there is none.
func (g *ledger) last(producer int64) *batch.Header {
	for _, e := range slices.Backward(g.entries) {
		if h, err := batch.Parse(e.bytes); err == nil && h.ProducerID == producer {
			return &h
		}
	}
	return nil
}

// inTransaction tells whether a producer's transaction is open.
func (g *ledger) inTransaction(producer int64) bool {
	h := g.last(producer)
	return h != nil && h.Transactional() && !h.Control()
}

// from is a batch that continues a producer's sequence.
func (f *life) from(topic string, producer int64, transactional bool) []byte {
	o := batch.Plain()
	o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = producer, 0, 0, transactional
	for _, e := range slices.Backward(f.ledger(topic).entries) {
		if h, err := batch.Parse(e.bytes); err == nil && h.ProducerID == producer && !h.Control() {
			o.BaseSequence = h.LastSequence() + 1
			break
		}
	}
	return f.some(o)
}

func (f *life) appendIdempotent(topic string) error {
	return f.send(topic, f.from(topic, 7+f.rng.Int64N(2), false), AppendOptions{Durable: f.durable()})
}

// appendAgain sends the last batch of a producer a second time.
func (f *life) appendAgain(topic string) error {
	g := f.ledger(topic)
	if len(g.entries) == 0 {
		return nil
	}
	e := g.entries[len(g.entries)-1]
	if h, err := batch.Parse(e.bytes); err != nil || !h.HasProducer() || h.Control() {
		return nil
	}
	raw := slices.Clone(e.bytes)
	batch.SetBaseOffset(raw, 0)
	return f.send(topic, raw, AppendOptions{Durable: f.durable()})
}

func (f *life) appendTransactional(topic string) error {
	id := 20 + f.rng.Int64N(2)
	begins := !f.ledger(topic).inTransaction(id)
	return f.send(topic, f.from(topic, id, true), AppendOptions{Durable: f.durable(), Verified: begins})
}

func (f *life) endTransaction(topic string) error {
	id := 20 + f.rng.Int64N(2)
	if !f.ledger(topic).inTransaction(id) {
		return nil
	}
	kind := batch.ControlCommit
	if f.rng.IntN(2) == 0 {
		kind = batch.ControlAbort
	}
	return f.send(topic, batch.AppendMarker(nil, id, 0, kind, 1, time.Now().UnixMilli()), AppendOptions{Origin: Coordinator, Durable: f.durable()})
}

func (f *life) appendSeveral(topic string) error {
	raw := append(f.some(batch.Plain()), f.some(batch.Plain())...)
	return f.send(topic, raw, AppendOptions{Origin: Coordinator, Durable: f.durable()})
}

// appendToAll has one round of the flusher sync many files.
func (f *life) appendToAll(string) error {
	var wg sync.WaitGroup
	errs := make([]error, len(lifeTopics))
	for i, topic := range lifeTopics {
		raw := f.some(batch.Plain())
		if g := f.ledger(topic); g.gone || g.compact != (i == len(lifeTopics)-1) {
			continue
		}
		wg.Go(func() { errs[i] = f.send(topic, raw, AppendOptions{Durable: true}) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fill appends more than a segment holds.
func (f *life) fill(topic string) error {
	durable := f.durable()
	for range 4 {
		if err := f.send(topic, f.some(batch.Plain()), AppendOptions{Durable: durable}); err != nil {
			return err
		}
	}
	return nil
}

func (f *life) wait(string) error {
	time.Sleep(time.Duration(f.rng.IntN(90)) * time.Second)
	return nil
}

// read reads what is committed, from somewhere on.
func (f *life) read(topic string) error {
	l, o, err := f.look(topic)
	if l == nil {
		return err
	}
	_, err = readAll(l, o.Start+f.rng.Int64N(o.End-o.Start+1), Stable)
	if f.ledger(topic).compact && errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// lookUp asks for the offset of a time and for the largest time.
func (f *life) lookUp(topic string) error {
	l, _, err := f.look(topic)
	if l == nil {
		return err
	}
	_, err = l.OffsetFor(time.Now().Add(-time.Duration(f.rng.IntN(300)) * time.Second).UnixMilli())
	_, err2 := l.MaxTimestamp()
	return errors.Join(err, err2)
}

// look gives the log of a topic, nil if the topic is gone.
func (f *life) look(topic string) (*Log, Offsets, error) {
	if f.ledger(topic).gone {
		return nil, Offsets{}, nil
	}
	l, err := f.log(topic)
	if err != nil {
		return nil, Offsets{}, err
	}
	return l, l.Offsets(), nil
}

// quiet tells that no transaction is open: records of one that is are not deleted here,
// because the ledger could not tell what is left of it.
func (g *ledger) quiet() bool { return !g.inTransaction(20) && !g.inTransaction(21) }

func (f *life) deleteRecords(topic string) error {
	g := f.ledger(topic)
	if g.gone || !g.quiet() {
		return nil
	}
	l, err := f.log(topic)
	if err != nil {
		return err
	}
	o := l.Offsets()
	return f.deleteBefore(topic, o.Start+f.rng.Int64N(o.End-o.Start+1))
}

// with waits for the janitor while a topic has other settings.
func (f *life) with(topic string, change func(*Config)) error {
	g := f.ledger(topic)
	if g.gone || !g.quiet() {
		return nil
	}
	l, err := f.log(topic)
	if err != nil {
		return err
	}
	was := *l.Config()
	c := was
	change(&c)
	l.SetConfig(c)
	time.Sleep(f.every + time.Second)
	l.SetConfig(was)
	return nil
}

func (f *life) retainBySize(topic string) error {
	return f.with(topic, func(c *Config) { c.RetentionBytes = 900 })
}

func (f *life) retainByTime(topic string) error {
	return f.with(topic, func(c *Config) { c.RetentionMillis = 1 })
}

// flushOften lets flush.messages and flush.ms ask for stable storage.
func (f *life) flushOften(topic string) error {
	if f.ledger(topic).gone {
		return nil
	}
	l, err := f.log(topic)
	if err != nil {
		return err
	}
	was := *l.Config()
	c := was
	c.FlushMessages, c.FlushMillis = 3, 5000
	l.SetConfig(c)
	for range 3 {
		err = errors.Join(err, f.send(topic, f.some(batch.Plain()), AppendOptions{}))
	}
	time.Sleep(6 * time.Second)
	l.SetConfig(was)
	return err
}

func (f *life) removeLog(topic string) error {
	if f.ledger(topic).pinned {
		return nil
	}
	_, err := f.log(topic) // half of them are open, as it is
	if err != nil && !f.ledger(topic).gone {
		return err
	}
	err = f.remove(topic)
	if f.rng.IntN(2) == 0 {
		time.Sleep(2 * time.Minute) // until what was renamed is removed
	}
	return err
}

func (f *life) stop(string) error {
	err := f.s.Close()
	f.reopenAll()
	if f.s != nil {
		err = errors.Join(err, f.s.SetAsideUnknown())
	}
	return err
}

// reopenAll starts on the same disk.
func (f *life) reopenAll() {
	if f.open() {
		f.epoch++
	}
}

func (f *life) killed(string) error {
	f.crash(vfs.Kill)
	return nil
}

func (f *life) powerCut(string) error {
	modes := vfs.Modes()
	f.crash(modes[f.rng.IntN(len(modes)-1)])
	return nil
}

// crash goes on with what a crash leaves, and with no more than that promised.
func (f *life) crash(mode vfs.Mode) {
	f.disk.OnOp(nil)
	disk := f.disk.Crash(mode, 0)
	_ = f.s.Close()
	if mode != vfs.Kill {
		f.mu.Lock()
		for _, g := range f.ledgers {
			g.written = g.durable
		}
		f.mu.Unlock()
	}
	f.boot(disk)
	if f.s == nil && !f.open() {
		return
	}
	for _, topic := range lifeTopics {
		f.mu.Lock()
		g := f.ledgers[topic]
		f.mu.Unlock()
		if g == nil || g.gone {
			continue
		}
		err := f.survivors(g, mode)
		if err != nil && len(f.faults) > 0 { // the fault was here
			_ = f.s.Close()
			if !f.open() {
				return
			}
			err = f.survivors(g, mode)
		}
		if err != nil && len(f.faults) == 0 {
			f.t.Errorf("after a crash, %s, of %s: %v", mode, topic, err)
		}
	}
}

// survivors checks a log after a crash and forgets what was not promised and is gone.
func (f *life) survivors(g *ledger, mode vfs.Mode) error {
	l, err := f.log(g.topic)
	if err != nil {
		return err
	}
	if err := g.check(l, mode == vfs.Kill); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o := l.Offsets()
	g.entries, g.written, g.start = g.found, o.End, min(g.start, o.Start)
	return nil
}

// kafkaCompaction leaves, between a stop and a start, the files of Kafka's cleaner when
// it was about to put one segment in the place of the first two of a log. The plain
// batches between the first and the last of them are dropped.
func (f *life) kafkaCompaction(string) error {
	topic := lifeTopics[len(lifeTopics)-1]
	if g := f.ledgers[topic]; g == nil || g.gone {
		return nil
	}
	err := errors.Join(f.fill(topic), f.fill(topic), f.s.Close())
	if err == nil {
		err = f.leaveSwap(f.ledger(topic))
	}
	f.reopenAll()
	return err
}

func (f *life) leaveSwap(g *ledger) error {
	dir := "data/" + g.topic + "-0/"
	entries, err := f.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	var bases []int64
	for _, e := range entries {
		if base, ok := offsetOf(e.Name(), logSuffix); ok {
			bases = append(bases, base)
		}
	}
	if len(bases) < 3 {
		return nil
	}
	cleaned, after, err := f.cleaned(g, dir, bases[:2])
	if err != nil {
		return err
	}
	for suffix, b := range map[string][]byte{logSuffix: cleaned, indexSuffix: nil, timeIndexSuffix: nil} {
		if err := writeFile(f.fs, dir+offsetName(bases[0])+suffix+cleanedSuffix, b, true); err != nil {
			return err
		}
	}
	f.mu.Lock()
	g.entries = after
	f.mu.Unlock()
	for _, suffix := range []string{indexSuffix, timeIndexSuffix, logSuffix} {
		name := dir + offsetName(bases[0]) + suffix
		if err := f.fs.Rename(name+cleanedSuffix, name+swapSuffix); err != nil {
			return err
		}
	}
	return f.fs.SyncDir(strings.TrimSuffix(dir, "/"))
}

// cleaned is what a compaction leaves of some segments, and the ledger's entries with
// those marked that it drops: all plain batches but the first and the last.
func (f *life) cleaned(g *ledger, dir string, bases []int64) (kept []byte, after []entry, err error) {
	var all []byte
	for _, base := range bases {
		b, err := readFile(f.fs, dir+offsetName(base)+logSuffix, 1<<20)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, b...)
	}
	dropped := map[int64]bool{}
	for rest := all; len(rest) > 0; {
		h, err := batch.Parse(rest)
		if err != nil {
			return nil, nil, err
		}
		b := rest[:h.Size()]
		rest = rest[h.Size():]
		if len(kept) == 0 || len(rest) == 0 || h.HasProducer() {
			kept = append(kept, b...)
		} else {
			dropped[h.BaseOffset] = true
		}
	}
	after = slices.Clone(g.entries)
	for i := range after {
		after[i].optional = after[i].optional || dropped[after[i].first]
	}
	return kept, after, nil
}
