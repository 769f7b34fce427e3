package log

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/log/batch"
)

// syncStretch is how much of a compacted segment is written before it is synced: one
// sync of a whole segment would hold up the syncs that producers wait for.
const syncStretch = 8 << 20

// breathBytes is after how much work the cleaner stands aside for a moment: it would
// otherwise keep a processor from those who wait for an answer for as long as the scheduler
// lets it, ten milliseconds.
const breathBytes = 256 << 10

// cleaning is one run of the cleaner over one log (Cleaner.doClean).
type cleaning struct {
	c         *cleaner
	l         *Log
	d         dirt
	config    *CleanerConfig
	topic     *Config
	nowMillis int64

	keys    *keyMap
	txns    *cleanedTxns
	decoder batch.Decoder
	encoder batch.Encoder

	bytesRead, bytesWritten int64
	worked                  int64 // bytes since the cleaner stood aside
	read, kept              int64 // records
}

func newCleaning(c *cleaner, d dirt, config *CleanerConfig, nowMillis int64) *cleaning {
	threads := max(config.Threads, 1)
	return &cleaning{
		c: c, l: d.l, d: d, config: config, topic: d.l.config.Load(), nowMillis: nowMillis,
		keys: newKeyMap(config.DedupeBytes/int64(threads), d.upper-d.first, config.LoadFactor),
	}
}

// run cleans the log and returns the first offset that is still dirty.
func (w *cleaning) run() (end int64, err error) {
	if err := w.learn(); err != nil {
		return 0, err
	}
	end = w.keys.last + 1
	all := *w.l.segments.Load()
	n := 0
	for n < len(all)-1 && all[n].base < end {
		n++
	}
	w.txns = newCleanedTxns()
	for _, group := range w.groups(all[:n]) {
		if err := w.cleanGroup(group); err != nil {
			return 0, err
		}
	}
	return end, nil
}

// learn fills the map with the keys of the dirty stretch, as far as it has room.
func (w *cleaning) learn() error {
	all := *w.l.segments.Load()
	first := max(floor(all, w.d.first), 0)
	aborted, err := w.l.abortedBetween(all[first:], w.d.first, w.d.upper)
	if err != nil {
		return err
	}
	w.txns = newCleanedTxns()
	w.txns.expect(aborted)
	w.keys.last = w.d.first - 1
	for i := first; i < len(all)-1 && all[i].base < w.d.upper; i++ {
		full, err := w.learnSegment(all[i])
		if err != nil || full {
			return err
		}
		w.keys.last = all[i+1].base - 1 // also where compaction has left a gap
	}
	return nil
}

func (w *cleaning) learnSegment(g *segment) (full bool, err error) {
	e, _, err := g.floor(w.d.first)
	if err != nil {
		return false, err
	}
	r, err := w.open(g, int64(e.pos))
	if err != nil {
		return false, err
	}
	defer r.close()
	for {
		h, b, err := r.next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		full, err := w.learnBatch(&h, b)
		if full || err != nil {
			return full, err
		}
	}
}

func (w *cleaning) learnBatch(h *batch.Header, b []byte) (full bool, err error) {
	if h.Control() {
		m, err := markerOf(h, b)
		if err != nil {
			return false, fmt.Errorf("%w: control batch at offset %d: %w", ErrStorage, h.BaseOffset, err)
		}
		w.txns.control(h, m)
	} else if !w.txns.data(h) {
		err = w.decoder.StoredRecords(h, b, batch.MaxRecordsBytes, func(r batch.Record) error {
			offset := h.BaseOffset + int64(r.OffsetDelta)
			if r.Key != nil && offset >= w.d.first && !w.keys.put(r.Key, offset) {
				return errFull
			}
			return nil
		})
		if errors.Is(err, errFull) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("%w: batch at offset %d: %w", ErrStorage, h.BaseOffset, err)
		}
	}
	if last := h.LastOffset(); last >= w.d.first {
		w.keys.last = last
	}
	return false, nil
}

var errFull = errors.New("the map of keys is full")

// groups puts neighbours together that fit into one segment, so that segments do not
// get ever smaller (Cleaner.groupSegmentsBySize).
func (w *cleaning) groups(segments []*segment) [][]*segment {
	most := int64(w.topic.SegmentBytes)
	if interval := int64(max(w.topic.IndexIntervalBytes, batch.HeaderBytes)); interval < most {
		most = min(most, interval*int64(w.topic.maxTimeIndexEntries())) // the indexes have limits too
	}
	var all [][]*segment
	var size int64
	for _, g := range segments {
		n := len(all)
		if n == 0 || size+g.size.Load() > most || g.size.Load() > 0 && g.lastPossible()-all[n-1][0].base > maxRelativeOffset {
			all, size = append(all, nil), 0
			n++
		}
		all[n-1] = append(all[n-1], g)
		size += g.size.Load()
	}
	return all
}

// lastPossible is the largest offset that a sealed segment can hold.
func (g *segment) lastPossible() int64 {
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	return g.end - 1
}

// cleanGroup writes what is to be kept of some neighbours into one new segment and puts
// it in their place. A segment of which everything is kept stays.
func (w *cleaning) cleanGroup(group []*segment) (err error) {
	out := newCleaned(w, group)
	defer func() {
		if err != nil {
			out.discard()
		}
	}()
	for i, g := range group {
		aborted, err := w.l.abortedBetween(w.from(g), g.base, g.lastPossible()+1)
		if err != nil {
			return err
		}
		w.txns.expect(aborted)
		if i == 1 { // they are put together: a change in any case
			if err := out.begin(); err != nil {
				return err
			}
		}
		if err := w.cleanSegment(g, out); err != nil {
			return err
		}
	}
	if out.file == nil {
		return nil
	}
	if err := out.finish(); err != nil {
		return err
	}
	if err := w.l.replace(out.g, group); err != nil {
		return err
	}
	out.file.release()
	return nil
}

// from gives the segments from one on.
func (w *cleaning) from(g *segment) []*segment {
	all := *w.l.segments.Load()
	return all[max(floor(all, g.base), 0):]
}

func (w *cleaning) cleanSegment(g *segment, out *cleaned) error {
	r, err := w.open(g, 0)
	if err != nil {
		return err
	}
	defer r.close()
	for {
		h, b, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.cleanBatch(&h, b, out); err != nil {
			return err
		}
	}
}

// cleanBatch decides what remains of a batch (Cleaner.cleanInto).
func (w *cleaning) cleanBatch(h *batch.Header, b []byte, out *cleaned) error {
	discard := false
	if h.Control() {
		m, err := markerOf(h, b)
		if err != nil {
			return fmt.Errorf("%w: control batch at offset %d: %w", ErrStorage, h.BaseOffset, err)
		}
		if h.HasProducer() {
			var keep *abortedTxn
			if discard, keep = w.txns.control(h, m); keep != nil {
				out.aborted = append(out.aborted, *keep)
			}
		}
	} else {
		discard = w.txns.data(h)
	}
	ended := discard && h.Control()
	if horizon, ok := h.DeleteHorizon(); ended && !(ok && horizon <= w.nowMillis) {
		discard = false
	}
	w.read += int64(h.Count)
	f := batch.Filtering{
		Limit: batch.MaxRecordsBytes, Horizon: w.horizon(h), EndedTxn: ended,
		KeepEmpty: h.LastOffset()+1 == w.d.upper || h.HasProducer() && w.l.lastOfProducer(h),
	}
	if discard && !f.KeepEmpty {
		return out.drop()
	}
	keep := func(r *batch.Record) bool { return !discard && (h.Control() || w.keeps(h, r)) }
	var done batch.Filtered
	var err error
	out.scratch, done, err = w.encoder.Filter(out.scratch[:0], &w.decoder, h, b, f, keep)
	if err != nil {
		return fmt.Errorf("%w: batch at offset %d: %w", ErrStorage, h.BaseOffset, err)
	}
	w.kept += int64(done.Kept)
	if !done.Same {
		if err := out.begin(); err != nil {
			return err
		}
	}
	if len(out.scratch) == 0 {
		return nil
	}
	return out.add(out.scratch)
}

// horizon is the time until which tombstones of a batch are kept. It begins when the
// older values are removed, so not for what the map does not reach (Kafka begins it then too).
func (w *cleaning) horizon(h *batch.Header) int64 {
	if h.LastOffset() > w.keys.last {
		return batch.NoTimestamp
	}
	return w.nowMillis + min(w.topic.DeleteRetentionMillis, math.MaxInt64-w.nowMillis)
}

// keeps tells whether a record of a data batch stays (Cleaner.shouldRetainRecord).
func (w *cleaning) keeps(h *batch.Header, r *batch.Record) bool {
	offset := h.BaseOffset + int64(r.OffsetDelta)
	if offset > w.keys.last {
		return true
	}
	if r.Key == nil || offset < w.keys.offset(r.Key) || mutant.On(mutant.LastValueDropped) && offset == w.keys.last {
		return false
	}
	horizon, ok := h.DeleteHorizon()
	if mutant.On(mutant.TombstoneEarly) {
		horizon, ok = 0, true
	}
	return r.Value != nil || !ok || w.nowMillis < horizon
}

// lastOfProducer tells whether a batch holds the newest that is known of its producer:
// without it the producer's sequence would be lost.
func (l *Log) lastOfProducer(h *batch.Header) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.producers.byID[h.ProducerID]
	switch {
	case p == nil:
		return false
	case p.n > 0:
		return p.batches[p.n-1].lastOffset == h.LastOffset()
	}
	return h.Control() && p.epoch == h.ProducerEpoch
}

// abortedBetween collects the aborted transactions that touch [from, upper), from the
// segment on that holds from.
func (l *Log) abortedBetween(segments []*segment, from, upper int64) ([]abortedTxn, error) {
	var all []abortedTxn
	for _, g := range segments {
		a, err := g.abortedTxns()
		if err != nil {
			return nil, err
		}
		for _, e := range a.all() {
			if e.lastOffset >= from && e.firstOffset < upper {
				all = append(all, e)
			}
			if e.stable >= upper {
				return all, nil
			}
		}
	}
	return all, nil
}

// room is the memory for reads, and as much again for writes.
func (w *cleaning) room() int {
	return max(w.config.IOBytes/2/max(w.config.Threads, 1), headerWindowBytes)
}

// segmentReader reads whole batches of a finished segment, their CRCs checked.
type segmentReader struct {
	w    *cleaning
	g    *segment
	f    *handle
	scan *scanner
	buf  []byte // holds one batch that is larger than the scanner's window
}

func (w *cleaning) open(g *segment, pos int64) (*segmentReader, error) {
	f, err := g.open()
	if err != nil {
		return nil, g.failed("open", err)
	}
	size := g.size.Load()
	buf := make([]byte, min(int64(w.room()), max(size-pos, batch.HeaderBytes)))
	r := &segmentReader{w: w, g: g, f: f, scan: &scanner{g: g, f: f, pos: pos, size: size, expect: -1, bound: g.limit.Load(), known: -1, rejected: -1, buf: buf}}
	if err := r.scan.compare(g); err != nil {
		f.release()
		return nil, err
	}
	return r, nil
}

func (r *segmentReader) close() { r.f.release() }

// next returns a batch, valid until the next call. io.EOF at the end.
func (r *segmentReader) next() (h batch.Header, b []byte, err error) {
	if err := r.w.c.stopped(r.w.l); err != nil {
		return h, nil, err
	}
	h, pos, err := r.scan.next()
	if err == io.EOF {
		return h, nil, err
	}
	if errors.Is(err, errTorn) {
		return h, nil, &brokenAt{r.g, pos, brokenHeader, err}
	}
	if err != nil {
		return h, nil, r.g.failed("read", err)
	}
	n := h.Size()
	r.w.bytesRead += int64(n)
	if r.w.worked += int64(n); r.w.worked >= breathBytes {
		r.w.worked = 0
		time.Sleep(time.Millisecond)
	}
	if err := r.w.c.take(n, r.w.config); err != nil {
		return h, nil, err
	}
	if n <= len(r.scan.buf) {
		b, err = r.scan.peek(pos, n)
	} else {
		r.buf = slices.Grow(r.buf[:0], n)[:n]
		b = r.buf
		if got, e := r.f.ReadAt(b, pos); got < n {
			err = e
		}
	}
	if err != nil {
		return h, nil, r.g.failed("read", err)
	}
	return h, b, nil
}

// cleaned is a segment in the making. Nothing is written while everything is kept.
type cleaned struct {
	w       *cleaning
	g       *segment
	group   []*segment
	m       *memIndex
	aborted []abortedTxn
	scratch []byte
	buf     []byte
	size    int64 // bytes of the segment so far, the buffered ones too
	synced  int64
	file    *handle // nil: as the only segment of the group
}

func newCleaned(w *cleaning, group []*segment) *cleaned {
	first, last := group[0], group[len(group)-1]
	g := w.l.newSegment(first.base, w.nowMillis)
	w.l.mu.Lock()
	g.end, g.created, g.modified, g.jitter = last.end, first.created, last.modified, first.jitter
	w.l.mu.Unlock()
	return &cleaned{w: w, g: g, group: group, m: g.mem.Load()}
}

// begin makes the file, with all that was kept unchanged until now.
func (o *cleaned) begin() error {
	if o.file != nil {
		return nil
	}
	if err := o.w.l.sweep(o.g); err != nil {
		return err
	}
	o.g.log.pinned.Store(true) // it cannot be opened again under its later name
	f, err := o.g.log.open(o.g.path(logSuffix)+cleanedSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return o.failed("create", err)
	}
	o.file = f
	prefix := o.size
	o.size = 0
	if prefix == 0 {
		return nil
	}
	from, err := o.group[0].open()
	if err != nil {
		return o.group[0].failed("open", err)
	}
	defer from.release()
	chunk := make([]byte, min(prefix, int64(o.w.room())))
	for at := int64(0); at < prefix; at += int64(len(chunk)) {
		chunk = chunk[:min(int64(len(chunk)), prefix-at)]
		if n, err := from.ReadAt(chunk, at); n < len(chunk) {
			return o.group[0].failed("read", err)
		}
		if err := o.write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// drop leaves out a batch.
func (o *cleaned) drop() error { return o.begin() }

// add appends one batch.
func (o *cleaned) add(b []byte) error {
	h, err := batch.Parse(b)
	if err != nil {
		return fmt.Errorf("%w: a compacted batch: %w", ErrStorage, err)
	}
	if o.size+int64(len(b)) > math.MaxInt32 {
		return fmt.Errorf("%w: what is left of segment %d has more than 2 GiB", ErrStorage, o.g.base)
	}
	o.g.index(o.m, &h, o.size, o.w.topic)
	if o.file == nil {
		o.size += int64(len(b))
		return nil
	}
	return o.write(b)
}

func (o *cleaned) write(b []byte) error {
	o.buf = append(o.buf, b...)
	o.size += int64(len(b))
	if len(o.buf) < o.w.room() {
		return nil
	}
	return o.flush()
}

func (o *cleaned) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	if err := o.w.c.take(len(o.buf), o.w.config); err != nil {
		return err
	}
	at := o.size - int64(len(o.buf))
	if _, err := o.file.WriteAt(o.buf, at); err != nil {
		return o.failed("write", err)
	}
	o.w.bytesWritten += int64(len(o.buf))
	o.buf = o.buf[:0]
	if o.size-o.synced < syncStretch {
		return nil
	}
	return o.sync()
}

func (o *cleaned) sync() error {
	o.synced = o.size
	if err := o.file.Sync(); err != nil {
		return o.w.l.store.fail(fmt.Errorf("sync compacted segment %d of %s: %w", o.g.base, o.w.l.at, err))
	}
	return nil
}

// finish makes the segment and its indexes durable under their .cleaned names.
func (o *cleaned) finish() error {
	if err := o.flush(); err != nil {
		return err
	}
	if err := o.sync(); err != nil {
		return err
	}
	o.g.addTime(o.m)
	o.m.end()
	for _, e := range o.aborted {
		o.g.aborted.Load().add(e)
	}
	o.g.size.Store(o.size)
	o.g.exists, o.g.finished = true, true
	files := []struct {
		suffix string
		bytes  []byte
	}{{indexSuffix, appendIndex(nil, o.m.offsets.all())}, {timeIndexSuffix, appendTimeIndex(nil, o.m.times.all())}, {txnIndexSuffix, appendAborted(nil, o.aborted)}}
	fs := o.w.l.store.fs
	for _, f := range files {
		if f.suffix == txnIndexSuffix && len(f.bytes) == 0 {
			continue
		}
		if err := writeFile(fs, o.g.path(f.suffix)+cleanedSuffix, f.bytes, true); err != nil {
			return o.unwritten("write the indexes of", err)
		}
	}
	if err := fs.SyncDir(o.w.l.path()); err != nil {
		return o.unwritten("sync the directory of", err)
	}
	return nil
}

func (o *cleaned) failed(what string, err error) error {
	if o.w.l.gone(err) {
		return errStopped
	}
	return worldly(fmt.Sprintf("%s compacted segment %d of %s", what, o.g.base, o.w.l.at), err)
}

// unwritten is for what was to be synced: see Log.unwritten.
func (o *cleaned) unwritten(what string, err error) error {
	if o.w.l.gone(err) {
		return errStopped
	}
	return o.w.l.unwritten(fmt.Sprintf("%s compacted segment %d of %s", what, o.g.base, o.w.l.at), err)
}

// discard removes what was made.
func (o *cleaned) discard() {
	if o.file == nil {
		return
	}
	o.file.release()
	if o.w.l.segmentOf(o.g.base) == o.g {
		return // it is in place; the next start ends what was not ended
	}
	o.g.close()
	if err := o.w.l.sweep(o.g); err != nil {
		o.w.l.store.report("remove what a compaction left", err)
	}
}
