package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/log/batch"
)

// maxSmallFileBytes bounds partition.metadata.
const maxSmallFileBytes = 1 << 16

// found is what the directory of a partition holds.
type found struct {
	segments  []fs.FileInfo // .log files
	bases     []int64       // of segments, increasing
	snapshots []int64       // offsets, increasing
	indexes   []string      // file names
}

// load makes the log of a place from its directory, or an empty one without any.
func (s *Store) load(p place, id [16]byte, c Config) (*Log, error) {
	l, err := s.loadFiles(p, id, c)
	if err != nil {
		return nil, err
	}
	l.unveil()
	return l, nil
}

// unveil lets others see a log that was loaded, the janitor first.
func (l *Log) unveil() {
	if l.loaded.Store(true); l.wanted.Load() {
		l.store.kick(l)
	}
}

func (s *Store) loadFiles(p place, id [16]byte, c Config) (*Log, error) {
	dir := partitionDir(s.dir, p)
	l := s.newLog(p, dir, id, &c)
	f, err := s.survey(p, id, &c)
	if err != nil {
		return nil, err
	}
	if f == nil {
		l.begin(0, time.Now().UnixMilli())
		return l, s.forget(p)
	}
	if err := l.loadFrom(f); err != nil {
		return nil, err
	}
	return l, nil
}

// newLog makes a log without anything in it.
func (s *Store) newLog(p place, dir string, id [16]byte, c *Config) *Log {
	l := &Log{store: s, at: p, id: id, keeping: make(chan struct{}, 1), watchers: new(watchers)}
	l.config.Store(c)
	l.dir.Store(&dir)
	l.producers = newProducers()
	l.producers.short = s.o.Short
	l.lastSnap, l.oddSnap, l.tidy = -1, -1, -1
	return l
}

// loadFrom brings a new log up from what its directory holds.
func (l *Log) loadFrom(f *found) error {
	s, p := l.store, l.at
	l.onDisk = true
	if len(f.bases) == 0 {
		// It may be what a failed first append left: nobody synced it.
		l.rootUnsafe, l.idUnsafe, l.names = true, true, 1
	}
	if s.suspect {
		// Without it the directory is nobody's, so a crash must find the old one or the new.
		if err := replaceDurably(s.fs, filepath.Join(l.path(), metadataFile), formatMetadata(l.id)); err != nil {
			return worldly("write "+metadataFile, err)
		}
	}
	s.mu.Lock()
	r := loading{l: l, s: s, f: f, future: l.path() != partitionDir(s.dir, p), c: l.config.Load(), point: s.points.recovery[p], start: s.points.start[p], high: s.points.high[p], now: time.Now().UnixMilli()}
	l.cleaned = s.points.cleaned[p]
	s.mu.Unlock()
	l.pointSaved = r.point
	if err := r.run(); err != nil {
		return fmt.Errorf("recover %s: %w", p, err)
	}
	return nil
}

// begin makes the log empty at an offset.
func (l *Log) begin(offset, nowMillis int64) {
	es := epochs(nil)
	l.epochs.Store(&es)
	l.epochsSafe = &es
	g := l.newSegment(offset, nowMillis)
	g.jitter = l.store.jitter(l.config.Load())
	l.setSegments([]*segment{g})
	l.durable, l.recovery = offset, offset
	l.publishLocked(offset, offset)
}

// survey lists a partition's directory and makes sure that it is this topic's; nil
// if there is none, or none with anything in it.
func (s *Store) survey(p place, id [16]byte, c *Config) (*found, error) {
	dir := partitionDir(s.dir, p)
	entries, err := s.listSettled(dir)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, worldly("read the directory of "+p.String(), err)
	}
	f, data := &found{}, false
	for _, e := range entries {
		if err := s.sort(f, dir, e); err != nil {
			return nil, err
		}
	}
	for _, info := range f.segments {
		data = data || info.Size() > 0
	}
	has, err := s.readID(dir)
	switch {
	case err == nil && has == id:
		return f, nil
	case err != nil && !missing(err) && !errors.Is(err, errDoubt):
		return nil, err
	case err != nil && !data:
		return nil, s.clear(dir, entries) // a crash came before the id; the first append writes it
	case err == nil && s.known(has):
		return nil, fmt.Errorf("%w: %s belongs to topic id %s", ErrClosed, p, formatID(has))
	}
	if err != nil && s.wasWhole(p, dir) {
		return nil, fmt.Errorf("%w: %s in the directory of %s is damaged: %w; put the right one back, or delete the topic", ErrStorage, metadataFile, p, err)
	}
	why := fmt.Sprintf("it belongs to topic id %s and not %s", formatID(has), formatID(id))
	if err != nil {
		why = "it has data and no readable " + metadataFile
	}
	if c.Irreplaceable {
		return nil, fmt.Errorf("%w: the directory of %s cannot be used: %s; put the right %s back", ErrStorage, p, why, metadataFile)
	}
	s.slog.Warn("a directory that is not this topic's is set aside", "log", p.String(), "reason", why)
	_, err = s.retire(p, strayDirSuffix, 0)
	return nil, err
}

// wasWhole tells that partition.metadata, which has no id in it, once had: it says
// something else, or the log was durable. A crash leaves it empty, all zeros or
// missing, and only before anything of the log was durable.
func (s *Store) wasWhole(p place, dir string) bool {
	point, _ := s.recoveryPoint(p)
	b, err := readFile(s.fs, filepath.Join(dir, metadataFile), maxSmallFileBytes)
	return point > 0 || err == nil && len(bytes.Trim(b, "\x00")) > 0
}

// clear removes what a log that had nothing durable left in its directory: segments
// without a byte would be taken for the log's end by the start after the next.
func (s *Store) clear(dir string, entries []fs.DirEntry) error {
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if err := s.fs.Remove(filepath.Join(dir, e.Name())); err != nil && !missing(err) {
			return worldly("clear the directory of a log without data", err)
		}
	}
	return nil
}

// sort puts one file into its list. What an earlier life left to be removed is removed.
func (s *Store) sort(f *found, dir string, e fs.DirEntry) error {
	name := e.Name()
	if offset, ok := offsetOf(name, logSuffix); ok {
		info, err := e.Info()
		if err != nil {
			return worldly("stat "+filepath.Join(dir, name), err)
		}
		f.bases, f.segments = append(f.bases, offset), append(f.segments, info)
		return nil
	}
	if offset, ok := offsetOf(name, snapshotSuffix); ok {
		f.snapshots = append(f.snapshots, offset)
		return nil
	}
	for _, suffix := range []string{indexSuffix, timeIndexSuffix, txnIndexSuffix} {
		if _, ok := offsetOf(name, suffix); ok {
			f.indexes = append(f.indexes, name)
			return nil
		}
	}
	if filepath.Ext(name) == deletedSuffix {
		s.janitor.later(time.Time{}, filepath.Join(dir, name))
	}
	return nil
}

// listSettled lists a partition's directory after an interrupted compaction was ended.
func (s *Store) listSettled(dir string) ([]fs.DirEntry, error) {
	entries, err := s.fs.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var t leftovers
	var names []string
	for _, e := range entries {
		if !e.IsDir() && !t.add(e.Name()) {
			names = append(names, e.Name())
		}
	}
	if t.none() {
		return entries, nil
	}
	if err := t.settle(s, dir, names); err != nil {
		return nil, err
	}
	return s.fs.ReadDir(dir)
}

// loading brings a log up from its files.
type loading struct {
	l     *Log
	s     *Store
	f     *found
	c     *Config
	point int64 // recovery point
	start int64 // log start, from the checkpoint
	high  int64 // high watermark, likewise
	now   int64 // milliseconds

	segments []*segment
	epochs   epochs
	next     int64 // offset after the last batch that was read

	promised int64  // below it everything was durable once; at least point, where damage says so more
	known    epochs // as the checkpoint has them
	lost     bool   // batches of producers were lost to damage
	remade   bool   // leader-epoch-checkpoint could not be read
	ended    bool   // the recovery point is where the log ended
	future   bool   // it is the copy of a log
}

// recoveryPoint is what the checkpoint says of a log that is not open.
func (s *Store) recoveryPoint(p place) (point int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	point, ok = s.points.recovery[p]
	return point, ok
}

func (r *loading) run() error {
	l := r.l
	for _, name := range r.f.indexes { // without their segment
		if _, ok := slices.BinarySearch(r.f.bases, leadingOffset(name)); !ok {
			l.removeQuietly(filepath.Join(l.path(), name))
		}
	}
	if len(r.f.bases) == 0 {
		return r.runEmpty()
	}
	for i, base := range r.f.bases {
		g := l.newSegment(base, r.now)
		g.exists, g.finished, g.timesKnown = true, true, false
		g.modified = r.f.segments[i].ModTime().UnixMilli()
		g.created = g.modified
		g.size.Store(r.f.segments[i].Size())
		g.found.Store(r.f.segments[i].Size())
		g.mem.Store(nil)
		g.aborted.Store(nil)
		if i+1 < len(r.f.bases) {
			g.end = r.f.bases[i+1]
		}
		r.segments = append(r.segments, g)
	}
	r.segments[len(r.segments)-1].finished = false
	point, ok := r.s.recoveryPoint(l.at)
	if r.ended = ok && r.s.clean; r.ended && r.start > point {
		return fmt.Errorf("%w: %s begins at %d after %s and ended at %d after %s, which a clean stop wrote: one of them is damaged; correct it",
			ErrStorage, l.at, r.start, logStartFile, point, recoveryPointFile)
	}
	// A deletion that was not finished, or not yet: nothing below the start is of use.
	below := 0
	for below < len(r.segments)-1 && r.segments[below+1].base <= r.start {
		below++
	}
	for _, g := range r.segments[:below] {
		if err := g.retire(time.Time{}); err != nil {
			return err
		}
	}
	r.segments, r.f.bases = r.segments[below:], r.f.bases[below:]
	l.setSegments(r.segments)
	if err := r.readDamage(); err != nil {
		return err
	}
	if r.s.clean && !r.s.suspect {
		ok, err := r.believe()
		if ok || err != nil {
			return err
		}
	}
	return r.recover()
}

// runEmpty opens a directory without segments: all of them were deleted, which makes
// the log's start its end.
func (r *loading) runEmpty() error {
	l := r.l
	at := max(r.start, r.point)
	if r.start < r.point {
		r.s.slog.Error("the segments of a log are gone; it goes on where it was durable", "log", l.at.String(), "start", r.start, "offset", r.point)
	}
	l.begin(at, r.now)
	// The names may be what a process left that was killed, or failed, before it synced them.
	l.names, l.rootUnsafe, l.idUnsafe = 1, true, true
	if err := r.readEpochs(nil); err != nil {
		return err
	}
	if err := r.readProducers(at); err != nil {
		return err
	}
	r.next = at
	r.publish(at)
	if r.s.clean && l.lastSnap == at {
		l.tidy = at
	}
	return nil
}

// active is the last segment.
func (r *loading) active() *segment { return r.segments[len(r.segments)-1] }

// believe opens a log that was left clean: the files are complete. It is false if the end
// of the last segment or its indexes say otherwise.
func (r *loading) believe() (bool, error) {
	l, g := r.l, r.active()
	end, err := r.endOfActive(g)
	if errors.Is(err, errDoubt) || missing(err) || errors.Is(err, ErrStorage) {
		r.s.slog.Warn("a log that was left clean does not read so and is recovered", "log", l.at.String(), "reason", err)
		r.reset(g)
		return false, nil
	}
	if err != nil {
		return false, worldly("read the active segment", err)
	}
	// A clean stop leaves the recovery point at the end. Kafka's metadata log has none.
	if _, ok := r.s.recoveryPoint(l.at); ok && end != r.point {
		r.s.slog.Warn("a log that was left clean does not end at its recovery point and is recovered", "log", l.at.String(), "end", end, "recovery point", r.point)
		r.reset(g)
		return false, nil
	}
	g.end = end
	g.log.drop() // most partitions are idle
	r.next = end
	if err := r.readEpochs(r.segments); err != nil {
		return false, err
	}
	if err := r.readProducers(end); err != nil {
		return false, err
	}
	l.durable, l.recovery, l.tidy = end, r.point, end
	if l.lastSnap != end || g.mem.Load() != nil {
		l.tidy = -1
	}
	r.publish(end)
	return true, nil
}

func (r *loading) reset(g *segment) {
	g.mem.Store(nil)
	g.aborted.Store(nil)
	g.timesKnown, g.firstKnown, g.sinceIndex, g.finished = false, false, 0, false
	g.maxTimestamp, g.maxTimestampAt = batch.NoTimestamp, g.base
}

// endOfActive finds the end of the active segment: it reads the last entries of its indexes, and the batches
// from there on, CRCs included. The rest of the indexes stays on disk until somebody needs it: see wake.
func (r *loading) endOfActive(g *segment) (end int64, err error) {
	size := g.size.Load()
	from, last := int64(0), int64(-1)
	index, err := g.openIndex(indexSuffix, indexEntryBytes)
	if err != nil {
		return 0, err
	}
	if index != nil {
		var b [indexEntryBytes]byte
		err := index.last(b[:])
		if e := decodeIndexEntry(b[:]); err == nil {
			from, last = int64(e.pos), g.base+int64(e.rel)
			if e == (indexEntry{}) && index.count > 2 || e.rel < 0 || e.pos < 0 || from >= size {
				err = fmt.Errorf("%w: the last entry is (%d, %d)", errDoubt, e.rel, e.pos)
			}
		}
		if err = errors.Join(err, index.Close()); err != nil {
			return 0, err
		}
	}
	t, ok, err := g.lastTimeEntry()
	if err != nil {
		return 0, err
	}
	if ok {
		g.maxTimestamp, g.maxTimestampAt = t.timestamp, g.base+int64(t.rel)
	}
	g.timesKnown = true
	f, err := g.open()
	if err != nil {
		return 0, err
	}
	defer f.release()
	end = g.base
	scan := newScanner(g, f, from, size)
	scan.holes = g.holes()
	for {
		h, _, err := scan.next()
		if err == io.EOF {
			return end, nil
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errDoubt, err)
		}
		end = h.LastOffset() + 1
		if h.MaxTimestamp > g.maxTimestamp {
			return 0, fmt.Errorf("%w: time index ends at %d, a batch has %d", errDoubt, g.maxTimestamp, h.MaxTimestamp)
		}
		if scan.at > from { // the entry's own batch does not count
			g.sinceIndex += h.Size()
		} else if last >= 0 && h.LastOffset() > last {
			return 0, fmt.Errorf("%w: index ends at offset %d, its batch at %d", errDoubt, last, h.LastOffset())
		}
	}
}

// readEpochs reads leader-epoch-checkpoint. One that cannot be read is made again
// from the batches of these segments.
func (r *loading) readEpochs(segments []*segment) error {
	b, err := readFile(r.s.fs, filepath.Join(r.l.path(), epochFile), maxCheckpointBytes)
	if err == nil {
		if r.epochs, err = parseEpochs(b); err == nil {
			return nil
		}
	} else if !missing(err) {
		return worldly("read "+epochFile, err)
	}
	r.epochs, r.remade = nil, true
	for _, g := range segments {
		err := g.each(0, func(_ io.ReaderAt, h *batch.Header, _ int64) error {
			r.epochs, _ = r.epochs.assign(h.LeaderEpoch, h.BaseOffset)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readProducers brings the producers to what they were at an offset: the newest
// snapshot up to it, and the batches since. A snapshot from below the first segment
// is of no use: what followed it was deleted, and with it perhaps the ends of
// transactions that are open in the snapshot, which would hold the last stable offset
// for ever.
func (r *loading) readProducers(at int64) error {
	l := r.l
	from, lowest := int64(-1), at
	if len(r.segments) > 0 {
		lowest = min(at, r.segments[0].base)
	}
	for i := len(r.f.snapshots) - 1; i >= 0 && from < 0; i-- {
		offset := r.f.snapshots[i]
		if offset > at || offset < lowest {
			continue
		}
		b, err := readFile(r.s.fs, l.snapshotPath(offset), maxSnapshotBytes)
		if refused := syscall.Errno(0); errors.As(err, &refused) && !missing(err) {
			// It may be whole: without it transactions that are open could be forgotten.
			return worldly("read a producer snapshot of "+l.at.String(), err)
		}
		if err == nil {
			if l.producers, err = parseSnapshot(b); err == nil {
				from = offset
				break
			}
		}
		r.s.slog.Warn("a producer snapshot cannot be read and is made again", "log", l.at.String(), "offset", offset, "reason", err)
		l.producers = newProducers()
	}
	if from >= 0 {
		l.lastSnap = from
	}
	if from >= at {
		return nil
	}
	for i, g := range r.segments {
		if g.base >= at || i+1 < len(r.segments) && r.segments[i+1].base <= from {
			continue
		}
		if err := r.replay(g, from, at); err != nil {
			return err
		}
	}
	return nil
}

// replay applies the batches of a segment in [from, at) to the producers.
func (r *loading) replay(g *segment, from, at int64) error {
	start := int64(0)
	if e, ok, err := g.floor(from); err == nil && ok && from > g.base {
		start = int64(e.pos)
	}
	return g.each(start, func(f io.ReaderAt, h *batch.Header, pos int64) error {
		if h.BaseOffset < from || h.BaseOffset >= at || !h.HasProducer() {
			return nil
		}
		m, err := readMarker(f, h, pos)
		if err != nil && !errors.Is(err, errTorn) {
			return err
		}
		if err != nil {
			r.s.slog.Error("the end of a transaction cannot be read", "log", r.l.at.String(), "offset", h.BaseOffset, "producer", h.ProducerID, "reason", err)
			return nil
		}
		r.l.producers.apply(h, m)
		return nil
	})
}

// readMarker reads the marker of a control batch of a producer; nil for other batches. Errors: errTorn if the batch
// has none, or the disk's.
func readMarker(f io.ReaderAt, h *batch.Header, pos int64) (*marker, error) {
	if !h.Control() || !h.HasProducer() || h.Count == 0 {
		return nil, nil
	}
	if h.Size() > maxControlBytes {
		return nil, fmt.Errorf("%w: control batch of %d bytes", errTorn, h.Size())
	}
	b := make([]byte, h.Size())
	if n, err := f.ReadAt(b, pos); n < len(b) {
		return nil, err
	}
	m, err := markerOf(h, b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTorn, err)
	}
	return m, nil
}

// publish sets the marks and what is left to say about the files.
func (r *loading) publish(end int64) {
	l := r.l
	if mutant.On(mutant.ProducersForgotten) {
		l.producers = newProducers()
	}
	l.producers.short = r.s.o.Short
	first := (*l.segments.Load())[0]
	start := min(max(r.start, first.base), end)
	es := r.epochs.until(end)
	changed := len(es) != len(r.epochs)
	if from, cut := es.from(start); cut {
		es, changed = from, true
	}
	l.epochs.Store(&es)
	if !changed {
		l.epochsSafe = &es
	}
	for _, offset := range r.f.snapshots {
		_, isBase := slices.BinarySearch(r.f.bases, offset)
		if offset > end {
			l.removeQuietly(l.snapshotPath(offset))
			continue
		}
		if !isBase && offset != first.base {
			if l.oddSnap >= 0 {
				l.removeQuietly(l.snapshotPath(l.oddSnap))
			}
			l.oddSnap = offset
		}
	}
	l.publishLocked(start, end)
	l.healLocked(start)
	if l.damageSafe != l.damage.Load() {
		l.store.kick(l)
	}
	l.active().jitter = l.store.jitter(r.c)
}
