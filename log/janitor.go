package log

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// never is farther away than any process lives.
const never = time.Duration(1<<63 - 1)

// janitor does what nobody waits for, in one goroutine of the store.
type janitor struct {
	s    *Store
	wake chan struct{}
	stop chan struct{} // closed to end it
	// flushEvery is the smallest flush.ms of all logs, in nanoseconds.
	flushEvery atomic.Int64

	mu     sync.Mutex
	kicked map[*Log]struct{} // have segments to finish
	doomed []doomed          // to be removed, in no order
}

// doomed is a file or directory to be removed.
type doomed struct {
	at   time.Time
	name string
}

func (j *janitor) init(s *Store) {
	j.s, j.wake, j.stop, j.kicked = s, make(chan struct{}, 1), make(chan struct{}), map[*Log]struct{}{}
	j.flushEvery.Store(int64(never))
}

// task is something done again and again.
type task struct {
	every time.Duration // 0: never
	next  time.Time
	run   func(now time.Time)
}

// kick has the janitor look after a log soon; one that is being loaded when that is done.
func (s *Store) kick(l *Log) {
	if l.wanted.Store(true); !l.loaded.Load() {
		return
	}
	j := &s.janitor
	j.mu.Lock()
	j.kicked[l] = struct{}{}
	j.mu.Unlock()
	j.poke()
}

func (j *janitor) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// later removes a file or directory at a time.
func (j *janitor) later(at time.Time, name string) {
	j.mu.Lock()
	j.doomed = append(j.doomed, doomed{at, name})
	j.mu.Unlock()
	j.poke()
}

// configured takes over what settings of one log mean for the janitor.
func (s *Store) configured(c *Config) {
	every := never
	if c.FlushMillis < int64(never/time.Millisecond) {
		every = max(time.Duration(c.FlushMillis)*time.Millisecond, time.Millisecond)
	}
	for j := &s.janitor; ; {
		was := j.flushEvery.Load()
		if int64(every) >= was {
			return
		}
		if j.flushEvery.CompareAndSwap(was, int64(every)) {
			j.poke()
			return
		}
	}
}

// run is the janitor's goroutine.
func (j *janitor) run() {
	s := j.s
	start := time.Now().Add(s.o.InitialDelay)
	tasks := []task{
		{every: s.o.RetentionCheck, next: start, run: s.retain},
		{every: s.o.Checkpoint, next: start, run: func(time.Time) { s.report("write checkpoints", s.checkpoint()) }},
		{every: s.o.StartCheckpoint, next: start, run: func(time.Time) { s.report("write log starts", s.saveStarts()) }},
		{every: s.o.ProducerExpirationCheck, next: start, run: s.expireProducers},
		{every: retryPause, next: start, run: s.refill},
		{every: idleCheck, next: start.Add(idleCheck), run: s.rest},
	}
	flush := task{next: time.Now(), run: s.flushOld}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-j.wake:
		case <-timer.C:
		}
		if s.Err() != nil {
			<-j.stop // nothing that is written could be believed
			return
		}
		now := time.Now()
		again := j.finishKicked(now)
		wait := min(again, j.removeDoomed(now))
		flush.every = time.Duration(j.flushEvery.Load())
		for i := range tasks {
			wait = min(wait, tasks[i].due(now))
		}
		if flush.every < never {
			wait = min(wait, flush.due(now))
		}
		timer.Reset(wait)
	}
}

// due runs the task if it is time, and tells how long it is until the next time.
func (t *task) due(now time.Time) time.Duration {
	if t.every <= 0 {
		return never
	}
	if !now.Before(t.next) {
		t.run(now)
		t.next = now.Add(t.every)
	}
	return t.next.Sub(now)
}

// retryPause is the wait after a full disk or the like kept the janitor from its work.
const retryPause = time.Second

// finishKicked finishes sealed segments. It tells when to come again.
func (j *janitor) finishKicked(now time.Time) time.Duration {
	j.mu.Lock()
	kicked := j.kicked
	j.kicked = map[*Log]struct{}{}
	j.mu.Unlock()
	wait := never
	for l := range kicked {
		err := errors.Join(l.deleteBelowStart(now), l.finish())
		if err == nil || errors.Is(err, ErrOffline) || l.deleted.Load() {
			continue
		}
		j.s.report("finish segments of "+l.at.String(), err)
		j.mu.Lock()
		j.kicked[l] = struct{}{}
		j.mu.Unlock()
		wait = retryPause
	}
	return wait
}

// fullPause is how often somebody complains about a full disk: every log may meet it every second.
const fullPause = time.Minute

// report logs an error that nobody else hears of. One of the whole directory was logged already.
func (s *Store) report(what string, err error) {
	if full(err) {
		now, last := time.Now().UnixNano(), s.complained.Load()
		if now-last < int64(fullPause) || !s.complained.CompareAndSwap(last, now) {
			return
		}
		s.slog.Error("the disk is full", "dir", s.dir, "doing", what, "err", err)
		return
	}
	if err != nil && !errors.Is(err, ErrOffline) {
		s.slog.Warn("housekeeping failed and is tried again", "doing", what, "err", err)
	}
}

// removeDoomed removes what is due, and tells when the next is.
func (j *janitor) removeDoomed(now time.Time) time.Duration {
	j.mu.Lock()
	var due []string
	wait, keep := never, j.doomed[:0]
	for _, d := range j.doomed {
		if d.at.After(now) {
			keep = append(keep, d)
			wait = min(wait, d.at.Sub(now))
			continue
		}
		due = append(due, d.name)
	}
	clear(j.doomed[len(keep):])
	j.doomed = keep
	j.mu.Unlock()
	for _, name := range due {
		j.s.report("remove "+name, j.s.fs.RemoveAll(name))
	}
	return wait
}

// checkpoint writes what the recovery points need, then the recovery points.
func (s *Store) checkpoint() error {
	var all error
	for _, l := range s.open() {
		l.keep()
		all = errors.Join(all, l.saveEpochs())
		l.unkeep()
	}
	return errors.Join(all, s.saveAll())
}

// flushOld has logs synced whose records are older than flush.ms.
func (s *Store) flushOld(now time.Time) {
	joined := false
	for _, l := range s.open() {
		l.mu.Lock()
		if l.unflushed > 0 && millis(now)-l.unflushedAt >= l.config.Load().FlushMillis && !l.closed {
			l.joinLocked()
			joined = true
		}
		l.mu.Unlock()
	}
	if joined {
		s.flusher.poke()
	}
}

func (s *Store) expireProducers(now time.Time) {
	for _, l := range s.open() {
		l.mu.Lock()
		l.producers.expire(millis(now), s.o.ProducerExpiration.Milliseconds())
		l.mu.Unlock()
	}
}
