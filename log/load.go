package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/rotpeter/rotpeter/log/batch"
)

// maxSmallFileBytes bounds partition.metadata.
const maxSmallFileBytes = 1 << 16

// found is what the directory of a partition holds.
type found struct {
	segments  []fs.FileInfo // .log files
	bases     []int64       // of segments, increasing
	snapshots []int64       // offsets, increasing
	others    map[int64][]string
}

// load makes the log of a place from its directory, or an empty one without any.
func (s *Store) load(p place, id [16]byte, c Config) (*Log, error) {
	l := &Log{store: s, at: p, id: id, keeping: make(chan struct{}, 1)}
	l.config.Store(&c)
	dir := partitionDir(s.dir, p)
	l.dir.Store(&dir)
	l.producers = newProducers()
	l.lastSnap, l.oddSnap, l.tidy = -1, -1, -1
	f, err := s.survey(p, id, &c)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	if f == nil {
		l.begin(0, now)
		return l, s.forget(p)
	}
	l.onDisk = true
	if s.suspect {
		// Without it the directory is nobody's, so a crash must find the old one or the new.
		if err := replaceDurably(s.fs, filepath.Join(dir, metadataFile), formatMetadata(id)); err != nil {
			return nil, worldly("write "+metadataFile, err)
		}
	}
	s.mu.Lock()
	r := loading{l: l, s: s, f: f, c: &c, point: s.points.recovery[p], start: s.points.start[p], high: s.points.high[p], now: now}
	s.mu.Unlock()
	if err := r.run(); err != nil {
		return nil, fmt.Errorf("recover %s: %w", p, err)
	}
	return l, nil
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
	f, data := &found{others: map[int64][]string{}}, false
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
	path := filepath.Join(dir, name)
	if offset, ok := offsetOf(name, logSuffix); ok {
		info, err := e.Info()
		if err != nil {
			return worldly("stat "+path, err)
		}
		f.bases, f.segments = append(f.bases, offset), append(f.segments, info)
		return nil
	}
	if offset, ok := offsetOf(name, snapshotSuffix); ok {
		f.snapshots = append(f.snapshots, offset)
		return nil
	}
	for _, suffix := range []string{indexSuffix, timeIndexSuffix, txnIndexSuffix} {
		if offset, ok := offsetOf(name, suffix); ok {
			f.others[offset] = append(f.others[offset], path)
			return nil
		}
	}
	if filepath.Ext(name) == deletedSuffix {
		s.janitor.later(time.Time{}, path)
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
	for base, names := range r.f.others { // indexes without their segment
		if _, ok := slices.BinarySearch(r.f.bases, base); !ok {
			for _, name := range names {
				l.removeQuietly(name)
			}
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
		g.mem.Store(nil)
		g.aborted.Store(nil)
		if i+1 < len(r.f.bases) {
			g.end = r.f.bases[i+1]
		}
		r.segments = append(r.segments, g)
	}
	r.segments[len(r.segments)-1].finished = false
	if point, ok := r.s.recoveryPoint(l.at); ok && r.s.clean && r.start > point {
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
	m, end, err := r.loadActive(g)
	if errors.Is(err, errDoubt) || missing(err) || errors.Is(err, ErrStorage) {
		r.s.slog.Warn("a log that was left clean does not read so and is recovered", "log", l.at.String(), "reason", err)
		r.reset(g)
		return false, nil
	}
	if err != nil {
		return false, worldly("read the active segment", err)
	}
	// A clean stop leaves the recovery point at the end.
	if _, ok := r.s.recoveryPoint(l.at); ok && end != r.point {
		r.s.slog.Warn("a log that was left clean does not end at its recovery point and is recovered", "log", l.at.String(), "end", end, "recovery point", r.point)
		r.reset(g)
		return false, nil
	}
	g.mem.Store(m)
	g.end = end
	r.next = end
	if err := r.readEpochs(r.segments); err != nil {
		return false, err
	}
	if err := r.readProducers(end); err != nil {
		return false, err
	}
	l.durable, l.recovery, l.tidy = end, r.point, end
	if l.lastSnap != end {
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

// loadActive reads the indexes of the active segment and the batches after the last
// entry, CRCs included.
func (r *loading) loadActive(g *segment) (m *memIndex, end int64, err error) {
	size := g.size.Load()
	entries, err := g.readIndex()
	if err != nil {
		return nil, 0, err
	}
	b, err := readFile(r.s.fs, g.path(timeIndexSuffix), maxIndexBytes)
	if err != nil {
		return nil, 0, err
	}
	times, err := parseTimeIndex(b)
	if err != nil {
		return nil, 0, err
	}
	a := new(growing[abortedTxn])
	if b, err = readFile(r.s.fs, g.path(txnIndexSuffix), maxIndexBytes); err != nil && !missing(err) {
		return nil, 0, err
	}
	aborted, err := parseAborted(b, g.base)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range aborted {
		a.add(e)
	}
	m = new(memIndex)
	from := int64(0)
	for _, e := range entries {
		m.offsets.add(e)
		from = int64(e.pos)
	}
	for _, e := range times {
		m.times.add(e)
		g.maxTimestamp, g.maxTimestampAt = e.timestamp, g.base+int64(e.rel)
	}
	g.timesKnown = true
	g.aborted.Store(a)
	f, err := g.open()
	if err != nil {
		return nil, 0, err
	}
	defer f.release()
	end = g.base
	scan := newScanner(g, f, from, size)
	for {
		h, _, err := scan.next()
		if err == io.EOF {
			return m, end, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errDoubt, err)
		}
		end = h.LastOffset() + 1
		if h.MaxTimestamp > g.maxTimestamp {
			return nil, 0, fmt.Errorf("%w: time index ends at %d, a batch has %d", errDoubt, g.maxTimestamp, h.MaxTimestamp)
		}
		if scan.at > from { // the entry's own batch does not count
			g.sinceIndex += h.Size()
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
	r.epochs = nil
	for _, g := range segments {
		err := r.headers(g, 0, func(h *batch.Header, _ int64) error {
			r.epochs, _ = r.epochs.assign(h.LeaderEpoch, h.BaseOffset)
			return nil
		})
		if errors.Is(err, ErrStorage) && !errors.Is(err, errUnread) {
			return nil // torn or damaged here: recovery finds it and assigns from there on
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// headers walks the batch headers of a segment from a position on.
func (r *loading) headers(g *segment, pos int64, visit func(h *batch.Header, pos int64) error) error {
	f, err := g.open()
	if err != nil {
		return worldly("open segment "+offsetName(g.base), err)
	}
	defer f.release()
	w := g.walk(f, pos, g.size.Load(), make([]byte, headerWindowBytes))
	for {
		h, at, err := w.step()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = visit(&h, at)
		}
		if err != nil {
			return err
		}
	}
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
	f, err := g.open()
	if err != nil {
		return worldly("open segment "+offsetName(g.base), err)
	}
	defer f.release()
	err = r.headers(g, 0, func(h *batch.Header, pos int64) error {
		if h.BaseOffset < from || h.BaseOffset >= at || !h.HasProducer() {
			return nil
		}
		m, err := readMarker(f, h, pos)
		if err != nil {
			return g.damagedAt(pos, err)
		}
		r.l.producers.apply(h, m)
		return nil
	})
	if errors.Is(err, ErrStorage) && !errors.Is(err, errUnread) { // reported when it is read; the producers of what follows are lost
		r.s.slog.Error("producers of a log are known up to its damage only", "log", r.l.at.String(), "err", err)
		return nil
	}
	return err
}

// readMarker reads the marker of a control batch of a producer; nil for other batches.
func readMarker(f io.ReaderAt, h *batch.Header, pos int64) (*marker, error) {
	if !h.Control() || !h.HasProducer() || h.Count == 0 {
		return nil, nil
	}
	if h.Size() > maxControlBytes {
		return nil, fmt.Errorf("control batch of %d bytes", h.Size())
	}
	b := make([]byte, h.Size())
	if n, err := f.ReadAt(b, pos); n < len(b) {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	return markerOf(h, b)
}

// publish sets the marks and what is left to say about the files.
func (r *loading) publish(end int64) {
	l := r.l
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
	l.active().jitter = l.store.jitter(r.c)
}
