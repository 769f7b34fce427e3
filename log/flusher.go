package log

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/internal/vfs"
)

const (
	// maxSyncers is how many files are synced at a time: beyond it a disk does not
	// get faster (performance.md: 100 files take 24.8 ms one by one, 6.6 ms by 16).
	maxSyncers = 16
	// syncFSFrom is from how many files on one sync of the whole file system is
	// cheaper than theirs.
	syncFSFrom = 4
)

// Commit is a round of the flusher: when it is done, what was appended before it
// was asked for is on stable storage.
type Commit struct {
	done chan struct{}
	err  error
}

// Done is closed when the round has ended.
func (c *Commit) Done() <-chan struct{} { return c.done }

// Err is why the records may not be durable: ErrOffline, or ErrClosed. Valid once Done is
// closed.
func (c *Commit) Err() error { return c.err }

// flusher makes logs durable together. While one round syncs, the next one gathers.
type flusher struct {
	s    *Store
	wake chan struct{}
	stop chan struct{} // closed to end it

	mu   sync.Mutex
	next *Commit // gathering; nil after close
	set  []*Log
}

func (f *flusher) init(s *Store) {
	f.s, f.wake, f.stop, f.next = s, make(chan struct{}, 1), make(chan struct{}), newCommit()
}

func newCommit() *Commit { return &Commit{done: make(chan struct{})} }

func (f *flusher) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// joinLocked puts the log into the gathering round. The caller holds l.mu, and
// pokes the flusher after letting it go.
func (l *Log) joinLocked() *Commit {
	f := &l.store.flusher
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.joined != f.next {
		l.joined = f.next
		f.set = append(f.set, l)
	}
	return f.next
}

// take ends the gathering of a round and begins the next.
func (f *flusher) take() (*Commit, []*Log) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.set) == 0 {
		return nil, nil
	}
	c, set := f.next, f.set
	f.next, f.set = newCommit(), nil
	return c, set
}

// run is the flusher's goroutine, until it is to stop and nobody waits.
func (f *flusher) run() {
	for {
		c, set := f.take()
		if c == nil {
			select {
			case <-f.wake:
				continue
			case <-f.stop:
				if c, set = f.take(); c == nil {
					return
				}
			}
		}
		c.err = f.s.flush(set)
		close(c.done)
	}
}

// dirty is what one log needs to become durable up to an offset.
type dirty struct {
	l        *Log
	end      int64
	names    int64
	segments []dirtySegment
	dir      bool // the directory has new names
	id       bool // partition.metadata is new
	root     bool // the directory's own name is new
}

type dirtySegment struct {
	g    *segment
	size int64
}

// collectLocked says what has to be synced so that everything is durable. The caller
// holds l.mu.
func (l *Log) collectLocked() dirty {
	d := dirty{l: l, end: l.marks.load().End, names: l.names, dir: l.names > l.namesSafe, id: l.idUnsafe, root: l.rootUnsafe}
	all := *l.segments.Load()
	for i := len(all) - 1; i >= 0 && all[i].end > l.durable; i-- {
		if g := all[i]; g.exists {
			if mutant.On(mutant.OldSegmentNotSynced) && i < len(all)-1 {
				continue
			}
			d.segments = append(d.segments, dirtySegment{g, g.size.Load()})
		}
	}
	return d
}

// settleLocked takes over that everything of d is on stable storage.
func (l *Log) settleLocked(d *dirty) {
	l.durable = max(l.durable, d.end)
	l.namesSafe = max(l.namesSafe, d.names)
	if d.root {
		l.rootUnsafe = false
	}
	if d.id {
		l.idUnsafe = false
	}
	for _, s := range d.segments {
		if s.g.size.Load() == s.size {
			s.g.log.pinned.Store(false)
		}
	}
}

// flush makes the logs durable. An error of a sync takes the store offline.
func (s *Store) flush(set []*Log) error {
	if err := s.Err(); err != nil {
		return err
	}
	all := make([]dirty, 0, len(set))
	files, root := 0, false
	for _, l := range set {
		l.mu.Lock()
		d := l.collectLocked()
		l.unflushed, l.unflushedAt = 0, 0
		l.mu.Unlock()
		all = append(all, d)
		files += len(d.segments)
		root = root || d.root
	}
	if err := s.syncAll(all, files, root); err != nil {
		return s.fail(err)
	}
	for i := range all {
		l := all[i].l
		l.mu.Lock()
		l.settleLocked(&all[i])
		l.mu.Unlock()
	}
	return nil
}

// syncAll syncs what the logs need: one by one, side by side, or the whole file system.
func (s *Store) syncAll(all []dirty, files int, root bool) error {
	if s.o.SyncFS && files >= syncFSFrom {
		err := s.fs.SyncFS(s.dir)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	if files == 1 && !root {
		for i := range all {
			if err := all[i].sync(s.fs); err != nil {
				return err
			}
		}
		return nil
	}
	if root {
		if err := s.fs.SyncDir(s.dir); err != nil {
			return fmt.Errorf("sync %s: %w", s.dir, err)
		}
	}
	return s.sideBySide(len(all), func(i int) error { return all[i].sync(s.fs) })
}

// sideBySide calls f for 0..n-1 from several goroutines and joins what went wrong.
func (s *Store) sideBySide(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next int
		all  error
	)
	for range min(n, maxSyncers) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					all = errors.Join(all, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return all
}

func (d *dirty) sync(fs vfs.FS) error {
	for _, s := range d.segments {
		if err := s.g.sync(); err != nil {
			return err
		}
	}
	dir := d.l.path()
	if d.id {
		if err := syncFile(fs, filepath.Join(dir, metadataFile)); err != nil && !d.l.gone(err) {
			return fmt.Errorf("sync %s of %s: %w", metadataFile, d.l.at, err)
		}
	}
	if !d.dir {
		return nil
	}
	if err := fs.SyncDir(dir); err != nil && !d.l.gone(err) {
		return fmt.Errorf("sync %s: %w", filepath.Base(dir), err)
	}
	return nil
}

func syncFile(fs vfs.FS, name string) (err error) {
	f, err := fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}

// sync makes the bytes of a segment durable. One that is deleted has nothing to keep.
func (g *segment) sync() error {
	f, err := g.open()
	if err == nil {
		err = f.Sync()
		f.release()
	}
	if err == nil || missing(err) && g.l.segmentOf(g.base) != g || g.l.gone(err) {
		return nil
	}
	return fmt.Errorf("sync segment %d of %s: %w", g.base, g.l.at, err)
}

// gone reports that a file is missing because the whole log was deleted.
func (l *Log) gone(err error) bool { return missing(err) && l.deleted.Load() }
