package log

import (
	"errors"
	"time"
)

const (
	// idleCheck is how often the janitor looks for what idle partitions hold. What was not used between two
	// looks is given up.
	idleCheck = time.Minute
	// idleMillis is for how long an active segment has to be left alone before its indexes are written to their
	// files and leave memory.
	idleMillis = 5 * 60_000
	// idleEntries is how many entries an index must have for that: below it they take less memory than it is
	// worth writing files for.
	idleEntries = 64
	// idleLogs bounds how many logs are put to rest in one look: each costs some syncs.
	idleLogs = 50
)

// rest gives up what idle logs hold: descriptors, and indexes in memory. A log that is used again opens its
// files again.
func (s *Store) rest(now time.Time) {
	s.files.sweep()
	left := idleLogs
	for _, l := range s.open() {
		for _, g := range *l.segments.Load() {
			if top := g.sealed.Load(); top != nil && !top.used.Swap(false) {
				g.sealed.Store(nil)
				g.lookups.Store(0)
			}
		}
		if left > 0 && l.restful(now) {
			left--
			if err := l.rest(now); err != nil && !errors.Is(err, ErrOffline) {
				s.report("write the indexes of "+l.at.String(), err)
				left = 0 // the disk is full
			}
		}
	}
}

// restful reports that the indexes of the active segment should leave memory.
func (l *Log) restful(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.active()
	m := g.mem.Load()
	return m != nil && m.offsets.size() >= idleEntries && !l.closed && l.broken == nil && millis(now)-g.modified >= idleMillis
}

// rest writes the indexes of the active segment to their files and gives the memory up: see wake. A start after a
// crash makes them again, as always.
func (l *Log) rest(now time.Time) error {
	l.keep()
	defer l.unkeep()
	if !l.restful(now) {
		return nil
	}
	l.mu.Lock()
	g := l.active()
	m, size := g.mem.Load(), g.size.Load()
	g.addTime(m)
	l.mu.Unlock()
	if err := g.writeIndexes(m, true); err != nil {
		return err
	}
	if err := l.store.syncDir(l.path()); err != nil && !l.gone(err) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if g == l.active() && g.mem.Load() == m && g.size.Load() == size {
		g.sealed.Store(nil)
		g.mem.Store(nil)
	}
	return nil
}

// sweep closes the files that were not used since the last sweep.
func (c *fileCache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := c.ring[:0]
	for _, f := range c.ring {
		h := f.cur.Load()
		switch {
		case h == nil: // closed by its owner
		case f.pinned.Load() || h.used.Swap(false):
			keep = append(keep, f)
		default:
			f.drop()
		}
	}
	clear(c.ring[len(keep):])
	c.ring, c.hand = keep, 0
}
