package log

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rotpeter/rotpeter/internal/invariant"
)

// errReplaced tells a reader that compaction put another segment in the place of the
// one that it looks at: it must look again.
var errReplaced = errors.New("the segment was compacted")

// cleanedFiles are the files of a compacted segment.
var cleanedFiles = []string{logSuffix, indexSuffix, timeIndexSuffix, txnIndexSuffix}

// sweep removes what an earlier compaction that failed left of a segment.
func (l *Log) sweep(g *segment) error {
	for _, suffix := range []string{cleanedSuffix, swapSuffix} {
		for _, file := range slices.Backward(cleanedFiles) {
			if err := l.store.fs.Remove(g.path(file) + suffix); err != nil && !missing(err) {
				return worldly("remove "+g.path(file)+suffix, err)
			}
		}
	}
	return nil
}

// replace puts a compacted segment in the place of some neighbours, as Kafka does
// (LocalLog.replaceSegments), so that a start after a crash in between ends it either way:
//
//	while a .cleaned file is there, nothing has happened;
//	once all are called .swap, they are what counts, and what they stand for may go;
//	when that is gone they get their names.
//
// Each step is durable before the next begins. Readers go on: those who hold an old
// segment's file read it to the end, others are sent to the new segment.
// Errors: errStopped, errReplaced if the neighbours are not there any more, or the world's.
func (l *Log) replace(g *segment, old []*segment) error {
	l.keep()
	defer l.unkeep()
	if err := l.settlePoint(old[len(old)-1]); err != nil {
		return err
	}
	l.mu.Lock()
	_, err := l.withoutLocked(g, old)
	if l.closed || l.damage.Load() != nil {
		err = errStopped
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := l.renameAll(g, cleanedSuffix, swapSuffix); err != nil {
		return err
	}
	// From here on it must come to its end: a start would end it.
	l.mu.Lock()
	all, err := l.withoutLocked(g, old)
	invariant.That(err == nil, "nobody else takes segments away", "log", l.at, "err", err)
	l.setSegments(all)
	l.mu.Unlock()
	if err := l.retireReplaced(g, old); err != nil {
		return l.store.fail(err)
	}
	if err := l.renameAll(g, swapSuffix, ""); err != nil {
		return l.store.fail(err)
	}
	l.mu.Lock()
	if m := g.mem.Load(); m != nil {
		g.sealed.Store(newSealedIndex(m.offsets.all()))
		g.mem.Store(nil)
	}
	l.mu.Unlock()
	g.log.pinned.Store(false)
	return nil
}

// settlePoint makes a recovery point durable that lies behind the segments to be
// replaced: a recovery takes gaps between offsets for damage where it does not expect them.
func (l *Log) settlePoint(last *segment) error {
	l.mu.Lock()
	end, saved := last.end, l.pointSaved
	l.mu.Unlock()
	if saved >= end {
		return nil
	}
	if err := errors.Join(l.saveSnapshots(), l.saveEpochs()); err != nil {
		return err
	}
	if err := l.store.saveAll(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pointSaved < end {
		return errReplaced // something is not finished: the next time
	}
	return nil
}

// withoutLocked is the list of segments with g in the place of old.
func (l *Log) withoutLocked(g *segment, old []*segment) ([]*segment, error) {
	all := *l.segments.Load()
	at := slices.Index(all, old[0])
	if at < 0 || at+len(old) >= len(all) || !slices.Equal(all[at:at+len(old)], old) {
		return nil, errReplaced
	}
	return slices.Concat(all[:at], []*segment{g}, all[at+len(old):]), nil
}

// renameAll changes the suffix of a compacted segment's files, the log first.
func (l *Log) renameAll(g *segment, from, to string) error {
	for _, file := range cleanedFiles {
		err := l.store.fs.Rename(g.path(file)+from, g.path(file)+to)
		if err != nil && !(missing(err) && file == txnIndexSuffix) {
			return worldly("rename "+g.path(file)+from, err)
		}
	}
	return l.store.syncDir(l.path())
}

// retireReplaced renames the files of segments that were replaced, to be removed
// later. The producer snapshot at the first one's base stays: it is the new segment's.
func (l *Log) retireReplaced(g *segment, old []*segment) error {
	at := time.Now().Add(time.Duration(l.config.Load().FileDeleteDelayMillis) * time.Millisecond)
	for _, o := range old {
		o.log.retire()
		o.idx.retire()
	}
	for _, o := range old {
		files := cleanedFiles
		if o.base != g.base {
			files = append(slices.Clone(cleanedFiles), snapshotSuffix)
		}
		for _, file := range files {
			name := o.path(file)
			err := l.store.fs.Rename(name, name+deletedSuffix)
			if err == nil {
				l.store.janitor.later(at, name+deletedSuffix)
			} else if !missing(err) {
				return fmt.Errorf("rename %s: %w", name, err)
			}
		}
		o.close()
	}
	return l.store.syncDir(l.path())
}
