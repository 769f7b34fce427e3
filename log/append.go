package log

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rotpeter/rotpeter/internal/invariant"
	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/log/batch"
)

// Origin tells who appends, and so what is checked (AppendOrigin).
type Origin int

const (
	// Client: one batch straight from the network; nothing about it is believed.
	Client Origin = iota
	// Coordinator: batches or transaction markers of this broker.
	Coordinator
	// Raft: batches of the metadata log.
	Raft
)

// AppendOptions say how to append.
type AppendOptions struct {
	Origin Origin
	// Durable asks for stable storage: Appended.Commit tells when.
	Durable     bool
	LeaderEpoch int32 // stamped on the batches
	// Verified tells that the transaction coordinator confirmed the batch's
	// transaction (KIP-890). Without it a transactional batch must belong to a
	// transaction that is open in this log already.
	Verified bool
	// Guard was taken before the coordinator was asked; the zero value guards nothing.
	Guard TxnGuard
	// TransactionVersion is that of the transaction (0, 1 or 2): from 2 on markers
	// need a new epoch and transactions begin at sequence 0.
	TransactionVersion int16
}

// Appended is where the records went.
type Appended struct {
	First, Last   int64 // offsets
	LogAppendTime int64 // milliseconds if the log stamped the records, else -1
	LogStart      int64
	Duplicate     bool    // an idempotent producer sent it before: nothing was written
	Commit        *Commit // nil: already as durable as asked
}

// incoming is one batch on its way into the log.
type incoming struct {
	b      []byte
	h      batch.Header
	marker *marker // of a control batch that ends a transaction
}

// Append adds one batch (Client) or several (Coordinator, Raft), all or none. The
// offsets, the leader epoch and, where the topic says so, the timestamp are set in
// place in b; b may be used again when it returns.
//
// Errors: the client's are those of errors.go, a *RecordErrors where records are
// to blame; ErrDiskFull and ErrStorage leave the log as it was; ErrOffline,
// ErrClosed.
func (l *Log) Append(now time.Time, b []byte, o AppendOptions) (Appended, error) {
	if err := l.store.Err(); err != nil {
		return Appended{}, err
	}
	if o.Origin == Client && l.store.Full() {
		return Appended{}, fmt.Errorf("%w: append to %s", ErrDiskFull, l.at)
	}
	c := l.config.Load()
	out := Appended{LogAppendTime: -1}
	var in []incoming
	var err error
	if o.Origin == Client {
		t := l.store.tools.Get()
		defer l.store.tools.Put(t)
		defer clear(t.in[:])
		in = t.in[:]
		err = l.validate(&in[0], b, millis(now), c, t)
		if c.LogAppendTime {
			out.LogAppendTime = millis(now)
		}
	} else {
		in, err = split(in, b)
	}
	if err != nil {
		return Appended{}, err
	}
	if l, err = l.lockAwake(); err != nil {
		return Appended{}, err
	}
	err = l.store.withReserve(o.Origin.reserves(), func() error { return l.appendLocked(millis(now), in, &o, c, &out) })
	durable := o.Durable || l.unflushed >= c.FlushMessages
	if err == nil && durable && out.Last >= l.durable && !mutant.On(mutant.SyncForgotten) {
		out.Commit = l.joinLocked()
	}
	l.mu.Unlock()
	if err != nil {
		if full(err) {
			l.store.report("append to "+l.at.String(), err)
		}
		return Appended{}, err
	}
	if out.Commit != nil {
		l.store.flusher.poke()
	}
	if !out.Duplicate {
		l.watchers.poke()
	}
	return out, nil
}

// lockAwake locks the log, or the one that took its place, with the active segment's
// indexes in memory.
func (l *Log) lockAwake() (*Log, error) {
	for {
		l = l.lockForChange()
		if l.active().awake() {
			return l, nil
		}
		l.mu.Unlock()
		if err := l.wake(); err != nil {
			return l, err
		}
	}
}

// split takes apart and checks what this broker built.
func split(in []incoming, b []byte) ([]incoming, error) {
	in, err := splitStored(in, b)
	if err == nil && len(in) == 0 {
		err = batch.ErrNone
	}
	return in, refusal(err)
}

// splitStored takes apart and checks what a log holds.
func splitStored(in []incoming, b []byte) ([]incoming, error) {
	for len(b) > 0 {
		h, err := batch.Stored(b)
		if err == nil && h.Size() > len(b) {
			err = batch.ErrNone
		}
		if err == nil {
			err = errors.Join(batch.CheckStoredCRC(&h, b), batch.CheckShape(&h))
		}
		if err != nil {
			return nil, err
		}
		e := incoming{b: b[:h.Size()], h: h}
		if e.marker, err = markerOf(&h, e.b); err != nil {
			return nil, err
		}
		in = append(in, e)
		b = b[h.Size():]
	}
	return in, nil
}

// markerOf reads the marker from a control batch of a producer; nil for other batches.
func markerOf(h *batch.Header, b []byte) (*marker, error) {
	if !h.Control() || !h.HasProducer() || h.Count == 0 {
		return nil, nil
	}
	var m *marker
	err := batch.Records(b, maxControlBytes, func(r batch.Record) error {
		kind, ok := batch.ControlType(r.Key)
		epoch, ok2 := batch.MarkerEpoch(r.Value)
		if !ok || !ok2 || kind != batch.ControlCommit && kind != batch.ControlAbort {
			return fmt.Errorf("%w: not an end transaction marker", batch.ErrRecord)
		}
		m = &marker{commit: kind == batch.ControlCommit, coordinatorEpoch: epoch, timestamp: h.BaseTimestamp + r.TimestampDelta}
		return nil
	})
	return m, err
}

// maxControlBytes bounds the records of a control batch.
const maxControlBytes = 1 << 20

// appendLocked is the one way into the log.
func (l *Log) appendLocked(nowMillis int64, in []incoming, o *AppendOptions, c *Config, out *Appended) error {
	if err := l.mendLocked(); err != nil {
		return err
	}
	marks := l.marks.load()
	bytes, next, maxTimestamp := 0, marks.End, batch.NoTimestamp
	// Who looked up the epoch just before it changed must not take it back: epochs go forward in a log.
	epoch := max(o.LeaderEpoch, l.epochs.Load().latest())
	for i := range in {
		h := &in[i].h
		h.BaseOffset, h.LeaderEpoch = next, epoch
		next = h.LastOffset() + 1
		bytes += len(in[i].b)
		maxTimestamp = max(maxTimestamp, h.MaxTimestamp)
	}
	out.First, out.Last, out.LogStart = marks.End, next-1, marks.Start
	if bytes > c.SegmentBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrLargerThanSegment, bytes, c.SegmentBytes)
	}
	duplicate, err := l.checkProducersLocked(in, o)
	if err != nil {
		return err
	}
	if duplicate != nil {
		out.First, out.Last, out.LogAppendTime, out.Duplicate = duplicate.firstOffset(), duplicate.lastOffset, duplicate.timestamp, true
		return nil
	}
	g, err := l.rollLocked(nowMillis, bytes, next-1, maxTimestamp, c)
	if err != nil {
		return err
	}
	for i := range in {
		batch.SetBaseOffset(in[i].b, in[i].h.BaseOffset)
		batch.SetLeaderEpoch(in[i].b, in[i].h.LeaderEpoch)
	}
	if err := l.writeLocked(g, in, bytes, c); err != nil {
		return err
	}
	l.acceptLocked(nowMillis, g, in, bytes, c)
	return nil
}

// mendLocked undoes a failed append that could not be undone when it failed, and says why the log takes no change.
func (l *Log) mendLocked() error {
	if l.broken != nil && !l.closed {
		g := l.active()
		f, err := g.open()
		if err != nil {
			return l.broken
		}
		defer f.release()
		if err := f.Truncate(g.size.Load()); err == nil {
			l.broken = nil
		}
	}
	return l.refusalLocked()
}

// checkProducersLocked holds the batches against the producers' state.
func (l *Log) checkProducersLocked(in []incoming, o *AppendOptions) (duplicate *seqBatch, err error) {
	if len(in) == 1 {
		if e := &in[0]; e.h.HasProducer() {
			return l.producers.check(&e.h, e.marker, o)
		}
		return nil, nil
	}
	// Several batches: each is checked against the state that those before it make.
	trial := newProducers()
	for i := range in {
		e := &in[i]
		if !e.h.HasProducer() {
			continue
		}
		if p, known := l.producers.byID[e.h.ProducerID]; known && trial.byID[e.h.ProducerID] == nil {
			clone := *p
			trial.byID[e.h.ProducerID] = &clone
		}
		if duplicate, err = trial.check(&e.h, e.marker, o); err != nil || duplicate != nil {
			return duplicate, err
		}
		trial.apply(&e.h, e.marker)
	}
	return nil, nil
}

// rollLocked starts a new segment if the batches do not belong in the active one
// (LogSegment.shouldRoll). It touches no file: the janitor finishes the old segment.
func (l *Log) rollLocked(nowMillis int64, bytes int, lastOffset, maxTimestamp int64, c *Config) (*segment, error) {
	g := l.active()
	size := g.size.Load()
	if size == 0 && lastOffset-g.base <= maxRelativeOffset {
		return g, nil
	}
	first, err := g.rollingTimestampLocked()
	if err != nil {
		return nil, err
	}
	waited := nowMillis - g.created
	if first >= 0 {
		waited = maxTimestamp - first
	}
	if size <= int64(c.SegmentBytes-bytes) && waited <= c.segmentAgeMillis()-g.jitter && !g.full(c, lastOffset) {
		return g, nil
	}
	return l.startSegmentLocked(nowMillis, c), nil
}

// maxRelativeOffset is the largest distance from a base offset that an index can hold.
const maxRelativeOffset = 1<<31 - 1

// startSegmentLocked makes the end of the log the base of a new active segment.
func (l *Log) startSegmentLocked(nowMillis int64, c *Config) *segment {
	return l.startSegmentAtLocked(l.marks.load().End, nowMillis, c)
}

func (l *Log) startSegmentAtLocked(base, nowMillis int64, c *Config) *segment {
	old := l.active()
	old.sealLocked()
	g := l.newSegment(base, nowMillis)
	g.jitter = l.store.jitter(c)
	all := *l.segments.Load()
	if old.size.Load() == 0 && !old.exists { // nothing was ever in it
		all = all[:len(all)-1]
	}
	l.setSegments(append(all[:len(all):len(all)], g))
	l.snapshots = append(l.snapshots, pendingSnapshot{base, l.producers.snapshot()})
	l.store.kick(l)
	return g
}

// writeLocked puts the bytes at the end of the segment's file. On an error the
// file is as it was before, or the log takes nothing more.
func (l *Log) writeLocked(g *segment, in []incoming, bytes int, c *Config) error {
	f, err := l.createLocked(g)
	if err != nil {
		return l.unwritten("create segment "+offsetName(g.base)+" of "+l.at.String(), err)
	}
	defer f.release()
	pos := g.size.Load()
	g.reserveLocked(f, pos+int64(bytes), int64(c.SegmentBytes))
	g.log.pinned.Store(true)
	if len(in) == 1 {
		_, err = f.WriteAt(in[0].b, pos)
	} else {
		buffers := make([][]byte, len(in))
		for i := range in {
			buffers[i] = in[i].b
		}
		_, err = f.WriteBuffersAt(buffers, pos)
	}
	if err == nil {
		return nil
	}
	g.reserved = 0
	// Whole batches of a failed write must not be found by a later recovery.
	if undo := f.Truncate(pos); undo != nil {
		l.broken = worldly("undo a failed append to "+l.at.String(), undo)
	}
	return l.unwritten(fmt.Sprintf("append %d bytes at %d of %s", bytes, pos, f.Name()), err)
}

// createLocked opens the segment's file, making it and the directory at the first append.
func (l *Log) createLocked(g *segment) (*handle, error) {
	if !g.exists {
		if err := l.materializeLocked(); err != nil {
			return nil, err
		}
		h, err := g.log.open(g.path(logSuffix), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
		if err != nil {
			return nil, err
		}
		g.exists = true
		l.names++
		return h, nil
	}
	return g.open()
}

// materializeLocked makes the directory of a log that has none yet, with the topic's id in it
// before any data: data without an id is nobody's.
func (l *Log) materializeLocked() error {
	if l.onDisk {
		return nil
	}
	fs := l.store.fs
	if err := fs.MkdirAll(l.path(), 0o700); err != nil {
		return err
	}
	name := filepath.Join(l.path(), metadataFile)
	if err := writeFile(fs, name, formatMetadata(l.id), false); err != nil {
		return err
	}
	// A log that may not be set aside has its id on stable storage before its data: else a
	// crash in between leaves a directory that no start accepts.
	if l.config.Load().Irreplaceable {
		if err := errors.Join(syncFile(fs, name), fs.SyncDir(l.path()), fs.SyncDir(l.store.dir)); err != nil {
			return l.store.fail(fmt.Errorf("sync %s of %s: %w", metadataFile, l.at, err))
		}
	}
	l.onDisk, l.rootUnsafe, l.idUnsafe = true, true, true
	l.names++
	return nil
}

const (
	// firstReserve is the size from which blocks are reserved ahead: below it a
	// partition takes no more than its data. It then doubles up to maxReserve.
	firstReserve = 1 << 20
	maxReserve   = 64 << 20
)

// reserveLocked reserves blocks ahead of the writes (decision D9). That it fails is
// no matter: the write itself tells whether there is space.
func (g *segment) reserveLocked(f *handle, end, segmentBytes int64) {
	if end <= g.reserved || end < firstReserve {
		return
	}
	from := max(g.reserved, g.size.Load())
	to := min(max(end, from+min(from, maxReserve)), max(segmentBytes, end))
	if err := f.Preallocate(from, to-from); err == nil {
		g.reserved = to
	} else {
		g.reserved = end + firstReserve // not again at once
	}
}

// acceptLocked makes written batches part of the log.
func (l *Log) acceptLocked(nowMillis int64, g *segment, in []incoming, bytes int, c *Config) {
	pos := g.size.Load()
	m := g.mem.Load()
	es, news := *l.epochs.Load(), false // copied only if it changes: what is stored lives on the heap
	for i := range in {
		h := &in[i].h
		if h.BaseOffset < g.end {
			invariant.That(false, "batches do not overlap", "base", h.BaseOffset, "end", g.end)
		}
		g.index(m, h, pos, c)
		pos += int64(len(in[i].b))
		g.end = h.LastOffset() + 1
		var changed bool
		if es, changed = es.assign(h.LeaderEpoch, h.BaseOffset); changed {
			news = true
		}
		l.applyLocked(g, h, in[i].marker)
		l.unflushed += int64(h.LastOffsetDelta) + 1
	}
	if news {
		kept := es
		l.epochs.Store(&kept)
	}
	g.modified = nowMillis
	if l.unflushedAt == 0 {
		l.unflushedAt = nowMillis
	}
	// Marks first: a reader must never be given bytes beyond the marks it reports.
	l.publishLocked(l.marks.load().Start, g.end)
	g.size.Store(pos)
}

// applyLocked updates the producers, and the transaction index for an abort.
func (l *Log) applyLocked(g *segment, h *batch.Header, m *marker) {
	if !h.HasProducer() {
		return
	}
	done := l.producers.apply(h, m)
	if done == nil || !done.aborted {
		return
	}
	g.aborted.Load().add(l.producers.abortedBy(done))
}
