package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Remove takes the log of a partition of the topic with this id out of use. Its directory is renamed, as
// Kafka does it, and removed after file.delete.delay.ms. Readers that are in the middle of it
// finish undisturbed, everybody else gets ErrClosed. It does nothing if the place is
// somebody else's by now.
func (s *Store) Remove(topic string, partition int32, id [16]byte) error {
	p := place{topic, partition}
	for {
		l, err := s.reserve(p)
		if err != nil {
			return err
		}
		if l == nil {
			defer s.unreserve(p)
			return s.removeUnopened(p, id)
		}
		if l.id != id {
			return nil
		}
		if s.claim(l) {
			defer s.unreserve(p)
			return s.removeOpen(l)
		}
	}
}

// claim takes an open log out of the store and reserves its place.
func (s *Store) claim(l *Log) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs[l.at] != l || s.busy[l.at] != nil {
		return false
	}
	delete(s.logs, l.at)
	s.busy[l.at] = make(chan struct{})
	return true
}

func (s *Store) removeOpen(l *Log) error {
	l.mu.Lock()
	l.closed = true
	onDisk, delay := l.onDisk, l.config.Load().FileDeleteDelayMillis
	l.mu.Unlock()
	l.deleted.Store(true)
	defer l.watchers.poke()
	if !onDisk {
		return nil
	}
	l.keep()
	defer l.unkeep()
	to, err := s.retire(l.at, deleteDirSuffix, delay)
	if err != nil {
		return err
	}
	l.dir.Store(&to)
	for _, g := range *l.segments.Load() {
		g.close()
	}
	return nil
}

func (s *Store) removeUnopened(p place, id [16]byte) error {
	dir := partitionDir(s.dir, p)
	has, err := s.readID(dir)
	if err != nil || has != id {
		if missing(err) || errors.Is(err, errDoubt) {
			return nil // nobody's: SetAsideUnknown deals with it
		}
		return err
	}
	delay := DefaultConfig().FileDeleteDelayMillis
	_, err = s.retire(p, deleteDirSuffix, delay)
	return err
}

// retire renames the directory of a partition that is out of use. One to be deleted goes
// after the delay.
func (s *Store) retire(p place, suffix string, delayMillis int64) (to string, err error) {
	return s.retireDir(p, partitionDir(s.dir, p), suffix, delayMillis)
}

func (s *Store) retireDir(p place, dir, suffix string, delayMillis int64) (to string, err error) {
	to = filepath.Join(s.dir, retiredName(p, s.o.NewID(), suffix))
	// A longer name may need a block of the directory.
	if err := s.Essential(func() error { return s.fs.Rename(dir, to) }); err != nil {
		return "", worldly("rename the directory of "+p.String(), err)
	}
	s.mu.Lock()
	s.dropPointsLocked(p)
	s.stale[p] = struct{}{}
	s.mu.Unlock()
	if err := s.fs.SyncDir(s.dir); err != nil {
		return "", s.fail(fmt.Errorf("rename the directory of %s: %w", p, err))
	}
	if suffix == deleteDirSuffix {
		s.janitor.later(time.Now().Add(time.Duration(delayMillis)*time.Millisecond), to)
	}
	return to, nil
}

// readID reads the topic id of a partition directory. Errors: fs.ErrNotExist without
// a directory or a file, errDoubt if there is no id in it, else the disk's.
func (s *Store) readID(dir string) (id [16]byte, err error) {
	b, err := readFile(s.fs, filepath.Join(dir, metadataFile), maxSmallFileBytes)
	if missing(err) {
		return id, err
	}
	if err != nil {
		return id, worldly("read "+metadataFile+" of "+filepath.Base(dir), err)
	}
	if id, err = parseMetadata(b); err != nil {
		err = fmt.Errorf("%w: %w", errDoubt, err)
	}
	return id, err
}

// SetAsideUnknown renames the directories of partitions of topics that are not known to
// "-stray", as Kafka does at its start. Call it when every known partition has been
// opened.
func (s *Store) SetAsideUnknown() error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return worldly("read the data directory", err)
	}
	var all error
	for _, e := range entries {
		if p, ok := placeOf(e.Name()); ok && e.IsDir() {
			all = errors.Join(all, s.setAsideIfUnknown(p))
		}
	}
	return all
}

func (s *Store) setAsideIfUnknown(p place) error {
	l, err := s.reserve(p)
	if l != nil || err != nil {
		return err
	}
	defer s.unreserve(p)
	id, err := s.readID(partitionDir(s.dir, p))
	if err == nil && s.known(id) {
		return nil
	}
	if err != nil && !missing(err) && !errors.Is(err, errDoubt) {
		return err
	}
	if err != nil && s.wasWhole(p, partitionDir(s.dir, p)) {
		return fmt.Errorf("%w: %s in the directory of %s is damaged, and whose it is cannot be told: %w; put the right one back, or remove the directory", ErrStorage, metadataFile, p, err)
	}
	s.slog.Warn("a directory that belongs to no topic is set aside", "log", p.String(), "topic id", formatID(id))
	_, err = s.retire(p, strayDirSuffix, 0)
	return err
}
