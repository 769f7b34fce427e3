package log

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// mover copies logs from one directory to another, in one goroutine of Dirs: each
// move a step in turn.
type mover struct {
	d    *Dirs
	wake chan struct{}
	stop chan struct{} // closed to end it

	stepBytes, swapBytes int64 // moveStepBytes and moveSwapBytes, but in tests

	free time.Time // the next bytes may be copied then; run's own

	mu    sync.Mutex
	moves []*move
	ended bool
}

// move is a log on its way to another directory.
type move struct {
	key    partitionKey
	dest   *Directory
	copier copier
	dirty  int64     // bytes copied since the last sync
	after  time.Time // not before, after an error that may heal
	life   context.Context
	abort  context.CancelFunc
	stop   chan struct{} // closed when it was called off
	done   chan struct{} // closed when the mover has let go of it
}

func (v *mover) init(d *Dirs) {
	v.d, v.wake, v.stop = d, make(chan struct{}, 1), make(chan struct{})
	v.stepBytes, v.swapBytes = moveStepBytes, moveSwapBytes
}

func (v *mover) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// to is how many logs are on their way to a directory.
func (v *mover) to(r *Directory) (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.moves {
		if m.dest == r {
			n++
		}
	}
	return n
}

// find is the move of a partition, nil if there is none.
func (v *mover) find(key partitionKey) *move {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := slices.IndexFunc(v.moves, func(m *move) bool { return m.key == key }); i >= 0 {
		return v.moves[i]
	}
	return nil
}

// cancel calls a move off. It returns when the copy has no part in anything any more.
// With abort it does not wait until a new place is recorded, which may then be
// recorded nevertheless: for partitions that are deleted.
func (v *mover) cancel(key partitionKey, abort bool) {
	m := v.find(key)
	if m == nil {
		return
	}
	if abort {
		m.abort()
	}
	v.mu.Lock()
	select {
	case <-m.stop:
	default:
		close(m.stop)
	}
	v.mu.Unlock()
	v.poke()
	<-m.done
}

func (v *mover) add(m *move) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return ErrClosed
	}
	v.moves = append(v.moves, m)
	v.poke()
	return nil
}

func (v *mover) close() {
	v.mu.Lock()
	if !v.ended {
		v.ended = true
		close(v.stop)
	}
	v.mu.Unlock()
}

// next is the move whose turn it is, and how long to wait if there is none. One
// that was called off does not wait.
func (v *mover) next(now time.Time) (*move, time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	wait := never
	for i, m := range v.moves {
		if left := max(m.after.Sub(now), v.free.Sub(now)); left > 0 && !m.stopped() {
			wait = min(wait, left)
			continue
		}
		v.moves = append(slices.Delete(v.moves, i, i+1), m) // to the end of the queue
		return m, 0
	}
	return nil, wait
}

func (m *move) stopped() bool {
	select {
	case <-m.stop:
		return true
	default:
		return false
	}
}

// run is the mover's goroutine. Moves that it leaves go on at the next start.
func (v *mover) run() {
	timer := time.NewTimer(never)
	defer timer.Stop()
	for {
		m, wait := v.next(time.Now())
		timer.Reset(wait)
		if m != nil {
			v.work(m)
		}
		select {
		case <-v.stop:
			v.leave()
			return
		case <-v.wake:
		case <-timer.C:
		}
	}
}

// leave lets go of all moves at the end.
func (v *mover) leave() {
	v.mu.Lock()
	moves := v.moves
	v.moves = nil
	v.mu.Unlock()
	for _, m := range moves {
		m.abort()
		close(m.done)
	}
}

// work takes one step of a move.
func (v *mover) work(m *move) {
	if m.stopped() {
		v.finish(m, v.d.drop(m))
		return
	}
	rate := int64(1<<63 - 1)
	if v.d.o.MoveRate != nil {
		rate = v.d.o.MoveRate()
	}
	if rate <= 0 {
		m.after = time.Now().Add(retryPause)
		return
	}
	n, err := 0, m.copier.from.Offline()
	if err == nil {
		err = m.dest.Err()
	}
	if err == nil {
		n, _, err = m.copier.step(int(min(v.stepBytes, rate)))
	}
	if m.dirty += int64(n); err == nil && m.dirty >= moveSyncBytes {
		m.dirty, err = 0, m.copier.sync()
	}
	swapped := false
	if err == nil && m.copier.missing() <= v.swapBytes {
		// What is done already need not be while appends wait.
		if err = errors.Join(m.copier.sync(), m.copier.to.finish()); err == nil && m.copier.missing() <= v.swapBytes {
			swapped, err = v.d.swap(m)
		}
	}
	switch {
	case swapped:
		v.finish(m, nil)
	case errors.Is(err, ErrDiskFull) || errors.Is(err, errUnassigned):
		if m.after.IsZero() {
			v.d.slog.Warn("a log that moves to another directory waits", "log", m.copier.from.at.String(), "to", m.dest.name, "reason", err)
		}
		m.after = time.Now().Add(retryPause)
	case errors.Is(err, errRewritten):
		if err := v.d.restart(m); err != nil {
			v.finish(m, err)
		}
	case errors.Is(err, ErrOffline):
		v.finish(m, fmt.Errorf("%w; the move goes on when the broker is started with both directories", err))
	case err != nil:
		v.finish(m, errors.Join(err, v.d.drop(m)))
	}
	v.free = time.Now().Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
}

// finish ends a move.
func (v *mover) finish(m *move, err error) {
	if err != nil {
		v.d.slog.Error("a log does not move to another directory", "log", m.copier.from.at.String(), "to", m.dest.name, "err", err)
	}
	v.mu.Lock()
	v.moves = slices.DeleteFunc(v.moves, func(o *move) bool { return o == m })
	v.mu.Unlock()
	m.copier.from.moving.Store(false)
	m.abort()
	close(m.done)
}

// restart begins the copy of a move again.
func (d *Dirs) restart(m *move) error {
	if err := d.drop(m); err != nil {
		return err
	}
	to, err := m.dest.store.beginFuture(m.copier.from)
	if err != nil {
		return err
	}
	d.mover.mu.Lock() // Moving looks at the copy
	defer d.mover.mu.Unlock()
	m.copier.to, m.copier.src = to, nil
	return nil
}

// drop removes the copy of a move.
func (d *Dirs) drop(m *move) error {
	if m.dest.Err() != nil {
		return nil
	}
	return m.dest.store.dropFuture(m.copier.to, true)
}

// errUnassigned: the new place could not be recorded, now.
var errUnassigned = errors.New("record the directory of a log")

// swap ends a move whose copy is nearly complete: appends wait meanwhile.
func (d *Dirs) swap(m *move) (swapped bool, err error) {
	c := &m.copier
	if err := c.close(); err != nil {
		return false, err
	}
	c.to.keep()
	defer func() {
		c.to.unkeep()
		c.open(swapped)
	}()
	if err := c.complete(); err != nil {
		return false, err
	}
	d.mu.Lock()
	id := m.dest.id
	d.mu.Unlock()
	if d.o.Assign != nil {
		if err := d.o.Assign(m.life, m.key.topic, m.key.partition, id); err != nil {
			return false, fmt.Errorf("%w: %w", errUnassigned, err)
		}
	}
	c.swap()
	d.mu.Lock()
	if from := d.homes[m.key]; from != nil {
		delete(from.held, c.to.at)
	}
	d.homes[m.key] = m.dest
	m.dest.held[c.to.at] = struct{}{}
	d.mu.Unlock()
	if d.o.Moved != nil {
		d.o.Moved(c.from, c.to)
	}
	return true, nil
}

// Named is the data directory of this name. Errors: ErrNoDirectory, ErrOffline.
func (d *Dirs) Named(name string) (*Directory, error) {
	i := slices.IndexFunc(d.dirs, func(r *Directory) bool { return r.name == name && !r.only })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoDirectory, name)
	}
	return d.dirs[i], d.dirs[i].Err()
}

// maxWishes bounds what clients may have remembered for partitions that do not exist.
const maxWishes = 10_000

// Wish has the log of a partition made in a directory, when there is none yet. Wishes
// beyond 10,000 are not remembered.
func (d *Dirs) Wish(topic string, partition int32, to *Directory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := place{topic, partition}
	if _, known := d.wishes[p]; known || len(d.wishes) < maxWishes {
		d.wishes[p] = to
	}
}

// Move has a log go on in another directory, while it is in use. It returns when the copying
// has begun; a move of the log to somewhere else is called off, and so the
// move back to where it is ends all moves. Errors: ErrOffline while any directory is out of
// service, as a copy might be there; the world's.
func (d *Dirs) Move(l *Log, to *Directory) error {
	d.altering <- struct{}{}
	defer func() { <-d.altering }()
	key := partitionKey{l.id, l.at.partition}
	if m := d.mover.find(key); m != nil {
		if m.dest == to {
			return nil
		}
		d.mover.cancel(key, false)
		if moved := l.movedTo(); moved != nil {
			l = moved
		}
	}
	if l.store == to.store {
		return nil
	}
	for _, r := range d.dirs {
		if err := r.Err(); err != nil {
			return err
		}
	}
	future, err := to.store.beginFuture(l)
	if err != nil {
		return err
	}
	return d.start(l, future, to)
}

func (d *Dirs) start(from, to *Log, dest *Directory) error {
	m := &move{key: partitionKey{from.id, from.at.partition}, dest: dest, copier: copier{from: from, to: to},
		stop: make(chan struct{}), done: make(chan struct{})}
	m.life, m.abort = context.WithCancel(d.life)
	from.moving.Store(true)
	return d.mover.add(m)
}

// Moving tells where a log is on its way to: the directory, nil if it does not move, the
// bytes that are there, and how many records are not.
func (d *Dirs) Moving(l *Log) (to *Directory, bytes, lag int64) {
	m := d.mover.find(partitionKey{l.id, l.at.partition})
	if m == nil {
		return nil, 0, 0
	}
	d.mover.mu.Lock()
	future := m.copier.to
	d.mover.mu.Unlock()
	return m.dest, future.Size(), l.Offsets().End - future.Offsets().End
}
