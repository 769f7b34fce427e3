package coordinator

import (
	"errors"
	"fmt"
	"time"

	"github.com/rotpeter/rotpeter/internal/invariant"
	"github.com/rotpeter/rotpeter/internal/mutant"
)

// errClosing stops a load because the shell is closing. It never leaves run.
var errClosing = errors.New("closing")

// run is the shell's goroutine: load, serve until the journal fails, again.
func (s *Shell) run() {
	defer close(s.done)
	for {
		err := s.load()
		if err == nil {
			s.loading.Store(false)
			err = s.serve()
			s.loading.Store(true)
			s.shard = nil
		}
		if errors.Is(err, errClosing) {
			s.refuse(ErrClosed)
			return
		}
		s.failures++
		s.o.Log.Error("coordinator failed; its state is loaded again", "coordinator", s.o.Name, "failures", s.failures, "error", err)
		if !s.pause() {
			s.refuse(ErrClosed)
			return
		}
	}
}

// load makes a fresh shard true by replaying the journal.
func (s *Shell) load() error {
	shard := s.o.New()
	err := s.o.Journal.Load(func(r Record) error {
		if s.isClosing() {
			return errClosing
		}
		shard.Apply(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("load the journal of %s: %w", s.o.Name, err)
	}
	s.shard = shard
	if s.o.Committed != nil {
		s.o.Committed(shard)
	}
	if l, ok := shard.(LoadedShard); ok {
		now := time.Now()
		return s.commit(now, s.apply(l.Loaded(now)))
	}
	return nil
}

// pause answers callers that this is no coordinator until it is time to load
// again. It returns false when the shell is closing.
func (s *Shell) pause() bool {
	d := min(minReloadPause<<min(s.failures-1, 16), maxReloadPause)
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		s.refuse(ErrNotCoordinator)
		select {
		case <-s.wake:
		case <-t.C:
			s.refuse(ErrNotCoordinator)
			return !s.isClosing()
		case <-s.closing:
			return false
		}
	}
}

// serve handles events until the journal fails or the shell closes. The error
// says which of the two.
func (s *Shell) serve() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	s.poke() // for what arrived while the shard was loading
	for {
		due := s.arm(timer)
		select {
		case <-s.closing:
			return errClosing
		case <-s.wake:
		case <-due:
		}
		if s.isClosing() {
			return errClosing
		}
		if err := s.batch(time.Now()); err != nil {
			return err
		}
	}
}

// arm sets the timer to the shard's deadline and returns its channel, nil if the
// shard wants no tick.
func (s *Shell) arm(timer *time.Timer) <-chan time.Time {
	at, ok := s.shard.Deadline()
	if !ok {
		timer.Stop()
		return nil
	}
	timer.Reset(time.Until(at))
	return timer.C
}

// batch handles what has arrived, and after it a tick if one is due: a heartbeat
// that waited in the inbox while the disk was slow still counts.
func (s *Shell) batch(now time.Time) error {
	var all Result
	for _, it := range s.gather() {
		e := Event{Body: it.body}
		if it.w != nil {
			e.Token = it.w
		}
		all = join(all, s.apply(s.shard.Handle(now, e)))
	}
	if at, ok := s.shard.Deadline(); ok && !at.After(now) {
		all = join(all, s.apply(s.shard.Handle(now, Event{Body: Tick{}})))
		at, ok = s.shard.Deadline()
		invariant.That(!ok || at.After(now), "a tick moves the shard's deadline into the future", "coordinator", s.o.Name, "deadline", at, "now", now)
	}
	return s.commit(now, all)
}

// apply makes the records of a result true.
func (s *Shell) apply(r Result) Result {
	for _, rec := range r.Records {
		s.shard.Apply(rec)
	}
	return r
}

// join adds b after a.
func join(a, b Result) Result {
	a.Records = append(a.Records, b.Records...)
	a.Replies = append(a.Replies, b.Replies...)
	a.Errands = append(a.Errands, b.Errands...)
	return a
}

// commit appends the records of a batch, waits until they are durable and then
// lets the world hear of it.
func (s *Shell) commit(now time.Time, r Result) error {
	if mutant.On(mutant.ReplyBeforeDurable) {
		for _, reply := range r.Replies {
			if w, ok := reply.To.(*waiter); ok {
				s.reply(w, reply.Body)
			}
		}
	}
	if len(r.Records) > 0 {
		if err := s.append(now, r.Records); err != nil {
			return err
		}
		s.failures = 0
		if s.o.Committed != nil {
			s.o.Committed(s.shard)
		}
	}
	for _, reply := range r.Replies {
		if reply.To == nil {
			continue
		}
		w, ok := reply.To.(*waiter)
		invariant.That(ok, "a shard replies to tokens of its shell", "coordinator", s.o.Name, "token", reply.To)
		s.reply(w, reply.Body)
	}
	if len(r.Errands) > 0 && s.o.Errands != nil {
		s.o.Errands(r.Errands)
	}
	return nil
}

// append writes the records and waits for their receipt. When the shell closes
// meanwhile nobody waits for the disk: the callers cannot know, and ask again.
func (s *Shell) append(now time.Time, rs []Record) error {
	receipt, err := s.o.Journal.Append(now, rs)
	if err != nil {
		return fmt.Errorf("append %d records to the journal of %s: %w", len(rs), s.o.Name, err)
	}
	if receipt == nil {
		return nil
	}
	select {
	case <-receipt.Done():
	case <-s.closing:
		return errClosing
	}
	if err := receipt.Err(); err != nil {
		return fmt.Errorf("commit %d records to the journal of %s: %w", len(rs), s.o.Name, err)
	}
	return nil
}
