package log

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/rotpeter/rotpeter/internal/mutant"
)

// segmentInfo is what retention needs to know of a segment.
type segmentInfo struct {
	next     int64 // base of the next segment; of the active one the log's end
	bytes    int64
	largest  int64 // timestamp, -1: none
	modified int64 // milliseconds: stands in where there are no timestamps
}

// expired tells how many of the first segments are to be deleted: those below the
// log's start, and under cleanup.policy=delete those beyond retention.bytes and
// retention.ms (UnifiedLog.deleteOldSegments). The last one is the active segment.
func expired(segs []segmentInfo, start, high, nowMillis int64, c *Config) int {
	n := 0
	for n < len(segs)-1 && segs[n].next <= start {
		n++
	}
	if !c.Delete {
		return n
	}
	if c.RetentionBytes >= 0 {
		var total int64
		for _, g := range segs[n:] {
			total += g.bytes
		}
		for over := total - c.RetentionBytes; n < len(segs) && segs[n].deletable(n == len(segs)-1, high) && over >= segs[n].bytes; n++ {
			over -= segs[n].bytes
		}
	}
	if c.RetentionMillis >= 0 {
		for n < len(segs) && segs[n].deletable(n == len(segs)-1, high) && nowMillis-segs[n].newest() > c.RetentionMillis {
			n++
		}
	}
	return n
}

// deletable: all of it is readable, and an empty active segment stays.
func (i *segmentInfo) deletable(active bool, high int64) bool {
	return i.next <= high && !(active && i.bytes == 0)
}

func (i *segmentInfo) newest() int64 {
	if i.largest >= 0 {
		return i.largest
	}
	return i.modified
}

// retain applies retention to all logs: first the new starts, which become durable
// together, then the files.
func (s *Store) retain(now time.Time) {
	type cut struct {
		l     *Log
		below int64
	}
	var cuts []cut
	for _, l := range s.open() {
		below, err := l.advanceOver(now)
		if err != nil && !errors.Is(err, errReplaced) {
			s.report("apply retention to "+l.at.String(), err)
		}
		if below > 0 {
			cuts = append(cuts, cut{l, below})
		}
	}
	if len(cuts) == 0 {
		return
	}
	if err := s.saveStarts(); err != nil {
		s.report("write log starts", err)
		return // the segments lie below the start, and go the next time
	}
	for _, c := range cuts {
		s.report("delete segments of "+c.l.at.String(), c.l.deleteSegments(now, c.below))
	}
}

// deleteBelowStart deletes the segments that DeleteBefore left below the start.
func (l *Log) deleteBelowStart(now time.Time) error {
	all := *l.segments.Load()
	start := l.marks.load().Start
	if len(all) == 1 || all[1].base > start {
		return nil
	}
	if err := l.store.saveStarts(); err != nil {
		return err
	}
	return l.deleteSegments(now, start)
}

// advanceOver moves the log's start over the segments that are expired and tells where
// they end; 0 if there are none. If all are, it rolls first.
func (l *Log) advanceOver(now time.Time) (below int64, err error) {
	all := *l.segments.Load()
	infos := make([]segmentInfo, len(all))
	l.mu.Lock()
	for i, g := range all {
		infos[i] = segmentInfo{bytes: g.size.Load(), modified: g.modified}
		if i+1 < len(all) {
			infos[i].next = all[i+1].base
		}
		infos[i].largest = math.MaxInt64
	}
	l.mu.Unlock()
	c := l.config.Load()
	if err := l.largestOf(all, infos, now, c); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.gate != nil || !slices.Equal(*l.segments.Load(), all) {
		return 0, nil // it rolled or was compacted meanwhile: the next time
	}
	o := l.marks.load()
	last := len(all) - 1
	infos[last].next, infos[last].bytes, infos[last].largest = o.End, all[last].size.Load(), all[last].maxTimestamp
	infos[last].modified = all[last].modified
	n := expired(infos, o.Start, o.High, millis(now), c)
	if mutant.On(mutant.RetentionTooMuch) && n > 0 && n < len(all)-1 {
		n++
	}
	if n == 0 {
		return 0, nil
	}
	if n == len(all) {
		l.startSegmentLocked(millis(now), c)
	}
	below = (*l.segments.Load())[n].base
	if below > o.Start {
		l.advanceStartLocked(below)
	}
	return below, nil
}

// largestOf looks up the largest timestamps of the segments that retention may remove, and of the first that it
// keeps: those after that, often thousands, are none of its business.
func (l *Log) largestOf(all []*segment, infos []segmentInfo, now time.Time, c *Config) (err error) {
	if !c.Delete || c.RetentionMillis < 0 {
		return nil
	}
	o := l.marks.load()
	infos[len(all)-1].next = o.End
	for i := expired(infos, o.Start, o.High, millis(now), c); i < len(all); i++ {
		if infos[i].largest, _, err = all[i].largest(); err != nil {
			return err
		}
		if millis(now)-infos[i].newest() <= c.RetentionMillis {
			return nil
		}
	}
	return nil
}

// deleteSegments takes the segments that end below an offset out of the log. Their files are renamed at once and
// removed after file.delete.delay.ms; readers that hold them finish undisturbed.
func (l *Log) deleteSegments(now time.Time, below int64) error {
	l.keep()
	defer l.unkeep()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	all := *l.segments.Load()
	n := 0
	for n < len(all)-1 && all[n+1].base <= below {
		n++
	}
	gone, rest := all[:n], all[n:]
	l.setSegments(rest)
	delay := time.Duration(l.config.Load().FileDeleteDelayMillis) * time.Millisecond
	kept := l.snapshots[:0]
	for _, p := range l.snapshots {
		if p.offset >= rest[0].base {
			kept = append(kept, p)
		}
	}
	l.snapshots = kept
	l.mu.Unlock()
	l.watchers.poke()
	var errs error
	for _, g := range gone {
		errs = errors.Join(errs, g.retire(now.Add(delay)))
	}
	return errs
}

// retire renames the files of a segment and has them removed at a time.
func (g *segment) retire(at time.Time) error {
	var errs error
	for _, suffix := range []string{logSuffix, indexSuffix, timeIndexSuffix, txnIndexSuffix, snapshotSuffix} {
		name := g.path(suffix)
		err := g.l.store.fs.Rename(name, name+deletedSuffix)
		if err == nil {
			g.l.store.janitor.later(at, name+deletedSuffix)
		} else if !missing(err) {
			errs = errors.Join(errs, worldly("rename "+name, err))
		}
	}
	g.close()
	return errs
}
