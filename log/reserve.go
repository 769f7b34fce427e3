package log

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Space that is set aside for what must go on when the disk is full. The files are ours, Kafka ignores them, and a
// clean stop removes them.
const (
	// wideReserve is for the broker's own state machines: consumers go on committing offsets for a while.
	wideReserve      = ".rotpeter_reserve"
	wideReserveBytes = 16 << 20
	// lastReserve is for what makes space: the checkpoint of log starts, and the metadata log's word that a topic is
	// deleted.
	lastReserve      = ".rotpeter_reserve_last"
	lastReserveBytes = 4 << 20
	// reserveShare is the part of the file system that the two may take at most.
	reserveShare = 1.0 / 64
)

// spare is blocks on the disk that nobody else gets. When a write that must go on finds the disk full,
// the blocks are given back; until they could be set aside again clients' appends are refused.
type spare struct {
	s     *Store
	spent atomic.Bool // some of it was given back

	mu    sync.Mutex
	files []reserved
}

type reserved struct {
	name  string
	bytes int64
	held  bool
}

func (r *spare) init(s *Store) {
	r.s, r.files = s, []reserved{{name: wideReserve, bytes: wideReserveBytes}, {name: lastReserve, bytes: lastReserveBytes}}
	most := int64(wideReserveBytes + lastReserveBytes)
	if u, err := s.fs.Usage(s.dir); err == nil && float64(most) > float64(u.Total)*reserveShare {
		for i := range r.files {
			r.files[i].bytes = int64(float64(r.files[i].bytes) * float64(u.Total) * reserveShare / float64(most))
		}
	}
	if !r.take() {
		s.slog.Warn("the disk is full: produce requests are refused until there is space", "dir", s.dir)
	}
}

// take sets aside what is not. It is false if there is no space for it.
func (r *spare) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.files) - 1; i >= 0; i-- { // the most needed first
		f := &r.files[i]
		if f.held {
			continue
		}
		if err := setAside(r.s, f.name, f.bytes); err != nil {
			r.spent.Store(full(err))
			return false
		}
		f.held = true
	}
	r.spent.Store(false)
	return true
}

func setAside(s *Store, name string, bytes int64) error {
	name = filepath.Join(s.dir, name)
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err = errors.Join(f.Preallocate(0, bytes), f.Close()); err != nil {
		_ = s.fs.Remove(name) // the blocks that it got are needed
	}
	return err
}

// give gives back the next of the first n reserves; false if there is none left.
func (r *spare) give(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.files[:n] {
		f := &r.files[i]
		if !f.held {
			continue
		}
		if !r.spent.Swap(true) {
			r.s.slog.Error("the disk is full: produce requests are refused until there is space again; consumers go on, deleting topics and records makes space", "dir", r.s.dir)
		}
		f.held = false
		if err := r.s.fs.Remove(filepath.Join(r.s.dir, f.name)); err != nil && !missing(err) {
			continue
		}
		return true
	}
	return false
}

// drop removes the files at a stop.
func (r *spare) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.files {
		f := &r.files[i]
		if err := r.s.fs.Remove(filepath.Join(r.s.dir, f.name)); err != nil && !missing(err) {
			r.s.report("remove "+f.name, err)
		}
		f.held = false
	}
}

// full tells an error that a full disk makes.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, ErrDiskFull)
}

// withReserve calls f, and while the disk is too full for it gives back reserves, at most the first n, and calls it again.
func (s *Store) withReserve(n int, f func() error) error {
	for {
		err := f()
		if !full(err) || !s.spare.give(n) {
			return err
		}
	}
}

// Essential calls f, which writes a little that must not fail for want of space, and on a full disk gives back what is set
// aside for that and calls it again.
func (s *Store) Essential(f func() error) error { return s.withReserve(len(s.spare.files), f) }

// Full tells that the disk is full: clients' appends are refused with ErrDiskFull until it is not.
func (s *Store) Full() bool { return s.spare.spent.Load() }

// reserves is how many of the reserves an append may use up.
func (o Origin) reserves() int {
	switch o {
	case Coordinator:
		return 1
	case Raft:
		return 2
	}
	return 0
}

// refill sets aside again what was given back.
func (s *Store) refill(time.Time) {
	if s.Full() && s.spare.take() {
		s.slog.Info("there is space on the disk again: produce requests are taken", "dir", s.dir)
		for _, l := range s.open() {
			if l.unfinished() {
				s.kick(l)
			}
		}
	}
}

// unfinished reports that the janitor has work with the log's files.
func (l *Log) unfinished() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := *l.segments.Load()
	return len(l.snapshots) > 0 || len(all) > 1 && !all[len(all)-2].finished
}
