package log

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"sort"
	"strconv"

	"github.com/rotpeter/rotpeter/log/batch"
)

// damageFile remembers in a partition's directory which ranges were found damaged. It is ours:
// Kafka ignores it.
const damageFile = ".rotpeter_damage"

// Damage is a range of offsets that cannot be read: bytes that were durable once are broken or
// missing. Everything around it is served, and nothing of it is removed.
type Damage struct {
	From, To int64  // offsets, To not included; equal if only bytes that hold no offset are broken
	File     string // the segment's log file
	Pos, End int64  // its bytes, End not included; equal where they are missing
	Reason   error
}

// damage is Damage inside the log: the segment is named by its base offset.
type damage struct {
	from, to int64 // offsets
	base     int64
	pos, end int64 // bytes
	err      error // ErrDamaged, for whoever reads here
	reason   error
}

// damages are the damaged ranges in order. They must not be changed.
func (l *Log) damages() []damage {
	if p := l.damage.Load(); p != nil {
		return *p
	}
	return nil
}

// setDamagesLocked is the one place where the list changes. The caller holds l.mu or is recovery.
func (l *Log) setDamagesLocked(all []damage) {
	if len(all) == 0 {
		l.damage.Store(nil)
		return
	}
	l.damage.Store(&all)
}

// Err tells that parts of the log are damaged: the error of the first of them. nil for a healthy log.
func (l *Log) Err() error {
	if d := l.damageFrom(l.marks.load().Start); d != nil {
		return d.err
	}
	return nil
}

// Damages lists the ranges of the log that are known to be damaged, by offset. Damage in old
// segments is found when somebody reads there.
func (l *Log) Damages() []Damage {
	var out []Damage
	start := l.marks.load().Start
	for _, d := range l.damages() {
		if d.to <= start { // what is kept of the segment has to be walked around it, and nobody misses it
			continue
		}
		out = append(out, Damage{From: d.from, To: d.to, File: l.segmentPath(d.base, logSuffix), Pos: d.pos, End: d.end, Reason: d.reason})
	}
	return out
}

func (l *Log) segmentPath(base int64, suffix string) string {
	return filepath.Join(l.path(), offsetName(base)+suffix)
}

// damageFrom gives the damaged range that holds the offset, or the first one after it; nil if there is none.
func (l *Log) damageFrom(offset int64) *damage {
	all := l.damages()
	for i := range all {
		if all[i].to > offset {
			return &all[i]
		}
	}
	return nil
}

// holes are the damaged ranges of one segment.
func (g *segment) holes() []damage {
	all := g.l.damages()
	if len(all) == 0 {
		return nil
	}
	first := sort.Search(len(all), func(i int) bool { return all[i].base >= g.base })
	last := sort.Search(len(all), func(i int) bool { return all[i].base > g.base })
	return all[first:last]
}

// skipHoles moves a position and the offset expected there over damaged bytes.
func skipHoles(holes []damage, pos, next int64) (int64, int64) {
	for i := range holes {
		if h := &holes[i]; pos >= h.pos && (pos < h.end || pos == h.end && next < h.to && next >= h.from) {
			pos, next = h.end, max(next, h.to)
		}
	}
	return pos, next
}

// untilHole is where the first damaged bytes begin at or after a position, at most size.
func (g *segment) untilHole(pos, size int64) int64 {
	for _, h := range g.holes() {
		if h.pos >= pos && h.end > h.pos {
			return min(h.pos, size)
		}
	}
	return size
}

// addDamageLocked puts a range into the list and tells the operator, once, if it is above the log's start. It is
// false if the range is there already. producers says what is known of the producers after it.
func (l *Log) addDamageLocked(d damage, producers string) bool {
	all := l.damages()
	for i := range all {
		h := &all[i]
		if h.base == d.base && h.pos == d.pos && h.end == d.end && h.to >= d.to || h.from < d.to && d.from < h.to {
			return false
		}
	}
	l.describe(&d)
	at := sort.Search(len(all), func(i int) bool { return all[i].from > d.from || all[i].from == d.from && all[i].pos > d.pos })
	l.setDamagesLocked(slices.Insert(slices.Clone(all), at, d))
	if d.to <= l.marks.load().Start {
		return true
	}
	l.store.slog.Error("durable data is damaged: this range cannot be read, everything else is served and appends go on",
		"log", l.at.String(), "file", l.segmentPath(d.base, logSuffix), "byte", d.pos, "to byte", d.end, "offset", d.from, "to offset", d.to, "reason", d.reason, "producers", producers,
		"do", fmt.Sprintf("stop the broker and put the file back from a copy; or have consumers seek to offset %d, and give the range up with kafka-delete-records before that offset", d.to))
	return true
}

// describe makes the error of a range for those who read in it. The reason is words there: that a batch
// on disk is corrupt is not a client's fault.
func (l *Log) describe(d *damage) {
	d.err = fmt.Errorf("%w: offsets %d to %d of %s (%s, bytes %d to %d): %v", ErrDamaged, d.from, d.to-1, l.at, l.segmentPath(d.base, logSuffix), d.pos, d.end, d.reason)
}

// healLocked forgets ranges that lie in segments below the log's start. Those of the segment of the start stay
// known: readers pass them on their way from the index to what is above.
func (l *Log) healLocked(start int64) {
	all, first := l.damages(), start
	if segments := *l.segments.Load(); len(all) > 0 {
		if at := floor(segments, start); at >= 0 {
			first = segments[at].base
		}
	}
	left := slices.DeleteFunc(slices.Clone(all), func(d damage) bool { return d.to <= start && d.base < first })
	if len(left) < len(all) {
		l.setDamagesLocked(left)
		l.store.slog.Info("damaged ranges lie below the log's start now", "log", l.at.String(), "start", start, "ranges left", len(left))
	}
}

// brokenAt is damage that a walk over batches met at a position: no batch begins there, or its records are
// broken, or only the index is wrong that led there.
type brokenAt struct {
	g    *segment
	pos  int64
	what brokenPart
	err  error
}

type brokenPart int

const (
	brokenHeader brokenPart = iota
	brokenRecords
	brokenIndex
)

func (b *brokenAt) Error() string {
	return fmt.Sprintf("%s at byte %d: %v", b.g.path(logSuffix), b.pos, b.err)
}

// Unwrap gives ErrStorage only: that a batch on disk is corrupt is not a client's fault.
func (b *brokenAt) Unwrap() error { return ErrStorage }

// maxRanges bounds the damaged ranges that one log keeps apart. The last one takes in the rest of
// its segment.
const maxRanges = 1000

// quarantine deals with what a walk met in a segment that is not being recovered: it finds
// out which range is damaged and takes it out of service, or finds that the index led astray and makes
// it again. nil means that the caller may try again. It runs without l.mu.
func (l *Log) quarantine(met *brokenAt) error {
	g, why := met.g, met.err
	misled, err := l.confine(met)
	if err != nil || !misled {
		return err
	}
	if met.what != brokenIndex {
		why = fmt.Errorf("it led to byte %d: %w", met.pos, why)
	}
	why = fmt.Errorf("%w: %w", errDoubt, why)
	if g == l.active() {
		_, err = g.rebuildActive(why)
	} else {
		_, err = g.rebuild(why)
	}
	return err
}

// confine reads the segment whole, as recovery does, and takes out of service what is not whole batches:
// what a walk over headers met is seldom where the damage begins. misled tells that there is none.
func (l *Log) confine(met *brokenAt) (misled bool, err error) {
	g := met.g
	l.inspect.Lock()
	defer l.inspect.Unlock()
	if l.knows(g, met.pos) {
		return false, nil // somebody else found it meanwhile
	}
	f, err := g.open()
	if err != nil {
		return false, g.failed("open", err)
	}
	defer f.release()
	l.mu.Lock()
	size, limit := g.size.Load(), g.limit.Load()
	if limit == math.MaxInt64 {
		limit = max(l.marks.load().End, g.end) // while the log is being opened only the segment knows
	}
	l.mu.Unlock()
	s := newScanner(g, f, 0, size)
	s.bound, s.dense = limit, !l.config.Load().Compact
	if err := s.compare(g); err != nil {
		return false, err
	}
	for any := false; ; {
		s.holes = g.holes()
		_, pos, err := s.next()
		switch {
		case err == io.EOF:
			g.trust()
			if any {
				return false, nil
			}
			if met.what == brokenRecords {
				return false, met // whole, and yet unreadable
			}
			return true, nil
		case errors.Is(err, errTorn):
			d, err := s.extent(pos, limit, err, len(l.damages()) < maxRanges)
			if err == nil {
				err = l.found(g, d)
			}
			if err != nil {
				return false, g.reading(err)
			}
			any = true
			s.pos, s.expect = d.end, d.to
		case err != nil:
			return false, g.reading(err)
		}
	}
}

// knows tells that a position lies in damage that is in the list.
func (l *Log) knows(g *segment, pos int64) bool {
	for _, h := range g.holes() {
		if pos >= h.pos && pos < max(h.end, h.pos+1) {
			return true
		}
	}
	return false
}

// found takes a range out of service that was met in a segment.
func (l *Log) found(g *segment, d damage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.segmentOf(g.base) != g {
		return g.away()
	}
	if l.addDamageLocked(d, "as they were: the range lies before what the newest snapshot knows, or was replayed") {
		l.store.kick(l)
	}
	return nil
}

// around calls f, and again when it met damage that was then taken out of service.
func (l *Log) around(f func() error) error {
	for range maxRanges {
		err := again(f)
		if err == nil {
			return nil
		}
		var bad *brokenAt
		if !errors.As(err, &bad) {
			return err
		}
		if err := l.quarantine(bad); err != nil && !errors.Is(err, errReplaced) {
			return err
		}
	}
	return fmt.Errorf("%w: %s has more damage than can be told apart", ErrStorage, l.at)
}

// each visits the batch headers of a segment from a boundary on, around its damage. Damage that it
// meets is taken out of service.
func (g *segment) each(pos int64, visit func(f io.ReaderAt, h *batch.Header, pos int64) error) error {
	f, err := g.open()
	if err != nil {
		return g.failed("open", err)
	}
	defer f.release()
	w := g.walk(f, pos, g.size.Load(), make([]byte, headerWindowBytes))
	w.careful = true
	last := int64(-1) // position of the batch visited last
	for {
		h, at, err := w.step()
		if err == nil {
			last = at
			err = visit(f, &h, at)
		}
		var bad *brokenAt
		switch {
		case err == nil:
		case err == io.EOF:
			return nil
		case errors.As(err, &bad):
			if err := g.l.quarantine(bad); err != nil {
				return err
			}
			if holes := g.holes(); len(holes) == len(w.holes) {
				return g.reading(err)
			}
			w.holes = g.holes()
			for i := range w.holes { // its length led astray
				if d := &w.holes[i]; last >= d.pos && last < d.end {
					w.pos, w.next = d.end, d.to
				}
			}
		default:
			return g.reading(err)
		}
	}
}

// missing takes the offsets between a segment's last batch and the next segment out of service, if there
// should be any: in a log that was never compacted offsets follow each other. It is false if nothing is
// missing. Only the segments themselves can tell whether the log was compacted in an earlier life
// of its settings: then there are gaps inside them too.
func (l *Log) missing(g, next *segment) (bool, error) {
	l.inspect.Lock()
	defer l.inspect.Unlock()
	if lost, err := l.cutShort(g); lost || err != nil {
		return lost, err
	}
	if l.config.Load().Compact {
		return false, nil
	}
	end := g.base
	for _, s := range []*segment{g, next} {
		expect, err := s.gapless()
		if expect < 0 || err != nil {
			return false, err
		}
		if s == g {
			end = expect
		}
	}
	if end >= next.base {
		return false, nil
	}
	size := g.size.Load()
	return true, l.found(g, damage{from: end, to: next.base, base: g.base, pos: size, end: size, reason: errors.New("the segments in between are missing, or the end of this one")})
}

// gapless gives the offset after a segment's last batch, or -1 if offsets are missing inside it.
func (g *segment) gapless() (end int64, err error) {
	f, err := g.open()
	if err != nil {
		return -1, g.failed("open", err)
	}
	defer f.release()
	w := g.walk(f, 0, g.size.Load(), make([]byte, headerWindowBytes))
	for {
		w.skip()
		expect := w.next
		h, pos, err := w.step()
		if err == io.EOF {
			return w.next, nil
		}
		if err != nil {
			return -1, g.reading(err)
		}
		if h.BaseOffset == expect && int64(h.Count) == int64(h.LastOffsetDelta)+1 {
			continue
		}
		_, err = newScanner(g, f, pos, w.size).whole(pos, w.size)
		if errors.Is(err, errTorn) {
			err = &brokenAt{g, pos, brokenHeader, err}
		} else if err != nil {
			err = g.reading(err)
		}
		return -1, err
	}
}

// saveDamage makes the list durable if it is not. The caller keeps the directory.
func (l *Log) saveDamage() error {
	p := l.damage.Load()
	l.mu.Lock()
	current := l.damageSafe == p || !l.onDisk
	l.mu.Unlock()
	if current {
		return nil
	}
	name := filepath.Join(l.path(), damageFile)
	var err error
	if p == nil {
		if err = l.store.fs.Remove(name); missing(err) {
			err = nil
		}
	} else {
		err = replaceDurably(l.store.fs, name, formatDamages(*p))
	}
	if err != nil {
		if l.gone(err) {
			return nil
		}
		return l.unwritten("write "+damageFile, err)
	}
	l.mu.Lock()
	l.damageSafe = p
	l.mu.Unlock()
	return nil
}

// formatDamages writes the list in the shape of Kafka's checkpoints: per range the segment's base, its bytes
// and its offsets.
func formatDamages(all []damage) []byte {
	b := fmt.Appendf(nil, "0\n%d\n", len(all))
	for _, d := range all {
		b = fmt.Appendf(b, "%d %d %d %d %d\n", d.base, d.pos, d.end, d.from, d.to)
	}
	return b
}

func parseDamages(b []byte) (all []damage, err error) {
	err = checkpointRows(b, 5, func(r []string) error {
		var v [5]int64
		for i := range v {
			n, err := strconv.ParseInt(r[i], 10, 64)
			if err != nil || n < 0 {
				return fmt.Errorf("%s has a wrong line %v", damageFile, r)
			}
			v[i] = n
		}
		d := damage{base: v[0], pos: v[1], end: v[2], from: v[3], to: v[4]}
		if n := len(all); d.pos > d.end || d.from > d.to || d.from < d.base || n > 0 && (d.from < all[n-1].to || d.base < all[n-1].base) {
			return fmt.Errorf("%s has a wrong line %v", damageFile, r)
		}
		all = append(all, d)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// readDamage reads what earlier starts found, and looks whether it is still so: the operator may have put a
// file back. A list that cannot be read is forgotten: damage is found again where it is met.
func (r *loading) readDamage() error {
	l := r.l
	b, err := readFile(r.s.fs, filepath.Join(l.path(), damageFile), maxCheckpointBytes)
	if missing(err) {
		return nil
	}
	if err != nil {
		return worldly("read "+damageFile, err)
	}
	known, err := parseDamages(b)
	if err != nil {
		r.s.slog.Warn("the list of damaged ranges cannot be read; they are found again where they are met", "log", l.at.String(), "reason", err)
	}
	for _, d := range known {
		at := floor(r.segments, d.from)
		if at < 0 || d.to <= r.segments[0].base {
			continue
		}
		g := r.segments[at]
		if g.base != d.base { // a file came, or went
			if d.pos == d.end && g.base > d.base {
				continue
			}
			d.base, d.pos, d.end = g.base, g.size.Load(), g.size.Load()
		}
		if d.reason, err = r.stillBroken(g, &d); err != nil {
			return err
		}
		if d.reason == nil {
			r.s.slog.Info("a damaged range is whole again", "log", l.at.String(), "file", g.path(logSuffix), "offset", d.from, "to offset", d.to)
			continue
		}
		l.describe(&d)
		l.setDamagesLocked(append(slices.Clone(l.damages()), d))
		r.promised = max(r.promised, d.to)
		if d.to <= r.start {
			continue
		}
		r.s.slog.Error("durable data is still damaged: this range cannot be read", "log", l.at.String(), "file", g.path(logSuffix), "byte", d.pos, "to byte", d.end, "offset", d.from, "to offset", d.to, "reason", d.reason)
	}
	if p := l.damage.Load(); p != nil && len(*p) == len(known) {
		l.damageSafe = p
	} else if len(known) > 0 || err != nil {
		l.damageSafe = new([]damage) // not what is in the file
	}
	return nil
}

// stillBroken says what is wrong with a range that was damaged; nil if whole batches are there.
func (r *loading) stillBroken(g *segment, d *damage) (reason, err error) {
	size, end := g.size.Load(), d.to
	f, err := g.open()
	if err != nil {
		return nil, worldly("open segment "+offsetName(g.base), err)
	}
	defer f.release()
	s := newScanner(g, f, d.pos, size)
	s.expect, s.bound, s.strict = d.from, g.limit.Load(), !r.c.Compact
	if err := r.compare(s); err != nil {
		return nil, err
	}
	young := r.c.Compact && r.young(g) && s.gaps == nil
	for s.expect < end {
		h, _, err := s.next()
		switch {
		case err == nil && young && h.BaseOffset > d.from && s.at == d.pos:
			return fmt.Errorf("the batch there begins at offset %d", h.BaseOffset), nil
		case err == io.EOF && s.pos > d.pos && s.expect >= end:
		case err == io.EOF:
			return errors.New("its bytes are missing"), nil
		case errors.Is(err, errTorn):
			return err, nil
		case err != nil:
			return nil, worldly("read segment "+offsetName(g.base), err)
		}
	}
	if d.from == d.to && d.pos < size { // bytes that hold no offsets
		return errors.New("bytes without offsets"), nil
	}
	return nil, nil
}
