package log

import (
	"errors"
	"fmt"
	"path/filepath"
)

// finish completes the files of sealed segments, oldest first, and then the
// snapshots and leader epochs, so that the recovery point may pass them. An error
// other than ErrOffline leaves the rest for the next time.
func (l *Log) finish() error {
	l.keep()
	defer l.unkeep()
	return l.finishSealed()
}

// keep makes the caller the only one that works on the files that are not the log's bytes.
func (l *Log) keep()   { l.keeping <- struct{}{} }
func (l *Log) unkeep() { <-l.keeping }

func (l *Log) finishSealed() error {
	l.mu.Lock()
	onDisk := l.onDisk
	l.mu.Unlock()
	if l.deleted.Load() || !onDisk {
		return nil
	}
	if err := l.saveDamage(); err != nil {
		return err
	}
	all := *l.segments.Load()
	if err := l.syncBelow(all[len(all)-1].base); err != nil {
		return err
	}
	for _, g := range all[:len(all)-1] {
		l.mu.Lock()
		done := g.finished
		l.mu.Unlock()
		if done {
			continue
		}
		if err := l.finishSegment(g); err != nil {
			return err
		}
	}
	if err := l.saveSnapshots(); err != nil {
		return err
	}
	return l.saveEpochs()
}

// syncBelow makes the records below an offset durable. It leaves that to the flusher: of two
// syncs of one file side by side, only one hears of an error, and the other would
// believe that all is well.
func (l *Log) syncBelow(offset int64) error {
	l.mu.Lock()
	if offset <= l.durable {
		l.mu.Unlock()
		return nil
	}
	c := l.joinLocked()
	l.mu.Unlock()
	l.store.flusher.poke()
	<-c.Done()
	return c.Err()
}

// finishSegment completes the indexes of a sealed segment, whose bytes are durable.
func (l *Log) finishSegment(g *segment) error {
	// Recovery makes the indexes again until the recovery point has passed the segment;
	// after that a file must never be seen half written.
	l.mu.Lock()
	again, m := l.recovery > g.base, g.mem.Load()
	l.mu.Unlock()
	if err := g.trim(); err != nil {
		return err
	}
	if m != nil {
		if err := g.writeIndexes(m, again); err != nil {
			return err
		}
	}
	if err := l.store.fs.SyncDir(l.path()); err != nil && !l.gone(err) {
		return l.store.fail(fmt.Errorf("sync directory of %s: %w", l.at, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g.finished = true
	if m != nil {
		g.sealed.Store(newSealedIndex(m.offsets.all()))
		g.mem.Store(nil)
	}
	return nil
}

// trim gives back the blocks reserved past the end.
func (g *segment) trim() error {
	f, err := g.open()
	if err == nil {
		err = f.Truncate(g.size.Load())
		f.release()
	}
	if err == nil || missing(err) && (g.l.segmentOf(g.base) != g || g.l.deleted.Load()) {
		return nil
	}
	return worldly(fmt.Sprintf("trim segment %d of %s", g.base, g.l.at), err)
}

// writeIndexes writes the index files of a segment; whole says that no crash may leave
// a part of one.
func (g *segment) writeIndexes(m *memIndex, whole bool) error {
	files := []struct {
		suffix string
		bytes  []byte
		need   bool
	}{
		{indexSuffix, appendIndex(nil, m.offsets.all()), true},
		{timeIndexSuffix, appendTimeIndex(nil, m.times.all()), true},
		{txnIndexSuffix, nil, false},
	}
	if a := g.aborted.Load(); a != nil && a.size() > 0 {
		files[2].bytes, files[2].need = appendAborted(nil, a.all()), true
	}
	for _, f := range files {
		if !f.need {
			continue
		}
		var err error
		if whole {
			err = replaceFile(g.l.store.fs, g.path(f.suffix), f.bytes)
		} else {
			err = writeFile(g.l.store.fs, g.path(f.suffix), f.bytes, true)
		}
		if err != nil && !g.l.gone(err) {
			return g.l.unwritten("write "+g.path(f.suffix), err)
		}
	}
	g.idx.drop() // it may be of the file before
	return nil
}

// unwritten tells a full disk, which heals, from a broken one, which does not: an
// index or a snapshot that could not be synced says that nothing can be.
func (l *Log) unwritten(what string, err error) error {
	if err = worldly(what, err); errors.Is(err, ErrDiskFull) {
		return err
	}
	return l.store.fail(err)
}

// saveSnapshots writes the producer snapshots taken at rolls, and removes what they
// supersede.
func (l *Log) saveSnapshots() error {
	for {
		l.mu.Lock()
		if len(l.snapshots) == 0 {
			l.mu.Unlock()
			return nil
		}
		p, odd := l.snapshots[0], l.oddSnap
		l.mu.Unlock()
		if err := l.writeSnapshot(p); err != nil {
			return err
		}
		if odd >= 0 && odd < p.offset {
			l.removeQuietly(l.snapshotPath(odd))
		}
		l.mu.Lock()
		l.snapshots = l.snapshots[1:]
		l.lastSnap = p.offset
		if l.oddSnap == odd && odd < p.offset {
			l.oddSnap = -1
		}
		l.mu.Unlock()
	}
}

func (l *Log) snapshotPath(offset int64) string {
	return filepath.Join(l.path(), offsetName(offset)+snapshotSuffix)
}

func (l *Log) writeSnapshot(p pendingSnapshot) error {
	err := writeFile(l.store.fs, l.snapshotPath(p.offset), p.bytes, true)
	if err == nil {
		err = l.store.fs.SyncDir(l.path())
	}
	if err == nil || l.gone(err) {
		return nil
	}
	return l.unwritten("write a producer snapshot of "+l.at.String(), err)
}

// removeQuietly removes a file that does no harm if it stays.
func (l *Log) removeQuietly(name string) {
	if err := l.store.fs.Remove(name); err != nil && !missing(err) {
		l.store.report("remove "+name, err)
	}
}

// saveEpochs writes leader-epoch-checkpoint if it is not up to date.
func (l *Log) saveEpochs() error {
	es := l.epochs.Load()
	l.mu.Lock()
	current, early := l.epochsSafe == es || !l.onDisk, len(*es) > 0 && (*es)[0].start > l.startSaved
	l.mu.Unlock()
	if current {
		return nil
	}
	// Epochs from below the log's start are left out, so the start must not go back.
	if early {
		if err := l.store.saveStarts(); err != nil {
			return err
		}
	}
	name := filepath.Join(l.path(), epochFile)
	if err := replaceDurably(l.store.fs, name, sealLines(es.format())); err != nil {
		if l.gone(err) {
			return nil
		}
		return l.unwritten("write "+epochFile, err)
	}
	l.mu.Lock()
	l.epochsSafe = es
	l.mu.Unlock()
	return nil
}

// finishAtClose completes all files, the active segment's too, and takes a snapshot
// at the end. The log is closed and synced; a log that did not change is left alone.
func (l *Log) finishAtClose() error {
	l.mu.Lock()
	g, onDisk, clean := l.active(), l.onDisk, l.tidy == l.marks.load().End
	broken := l.broken
	l.mu.Unlock()
	if !onDisk {
		return nil
	}
	l.keep()
	defer l.unkeep()
	if broken != nil { // recovery decides what the file holds
		return broken
	}
	if err := l.finishSealed(); err != nil || clean {
		return err
	}
	l.mu.Lock()
	if g.exists {
		g.sealLocked()
	}
	end := l.marks.load().End
	p := pendingSnapshot{end, l.producers.snapshot()}
	if l.lastSnap != end {
		l.snapshots = append(l.snapshots, p)
	}
	l.mu.Unlock()
	if g.exists {
		err := g.trim()
		if m := g.mem.Load(); m != nil && err == nil {
			err = g.writeIndexes(m, false)
		}
		if err != nil {
			return err
		}
	}
	l.mu.Lock()
	g.finished = true
	l.mu.Unlock()
	if err := l.saveSnapshots(); err != nil {
		return err
	}
	return l.store.syncDir(l.path())
}

func (s *Store) syncDir(dir string) error {
	if err := s.fs.SyncDir(dir); err != nil {
		return s.fail(fmt.Errorf("sync %s: %w", filepath.Base(dir), err))
	}
	return nil
}
