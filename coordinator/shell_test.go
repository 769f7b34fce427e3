package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tally is a shard that counts by key. Its events: put adds to a key and replies
// the sum; get replies the sum; park replies when the key is put next; alarm sets
// the deadline at which it puts "tick".
type tally struct {
	sums     map[string]int // hard
	parked   map[string][]Token
	deadline time.Time
	handled  []string
}

type put struct{ key string }
type get struct{ key string }
type park struct{ key string }
type alarm struct{ after time.Duration }
type errand struct{ name string }

func newTally() *tally {
	return &tally{sums: map[string]int{}, parked: map[string][]Token{}}
}

func (s *tally) Handle(now time.Time, e Event) Result {
	s.handled = append(s.handled, fmt.Sprintf("%T", e.Body))
	switch b := e.Body.(type) {
	case put:
		r := Result{Records: []Record{{Key: []byte(b.key), Value: []byte("1")}}}
		r.Replies = append(r.Replies, Reply{To: e.Token, Body: s.sums[b.key] + 1})
		for _, t := range s.parked[b.key] {
			r.Replies = append(r.Replies, Reply{To: t, Body: "unparked"})
		}
		delete(s.parked, b.key)
		return r
	case get:
		return Result{Replies: []Reply{{To: e.Token, Body: s.sums[b.key]}}}
	case park:
		s.parked[b.key] = append(s.parked[b.key], e.Token)
	case alarm:
		s.deadline = now.Add(b.after)
		return Result{Replies: []Reply{{To: e.Token, Body: "armed"}}}
	case errand:
		return Result{Replies: []Reply{{To: e.Token, Body: "sent"}}, Errands: []Errand{b.name}}
	case Tick:
		s.deadline = time.Time{}
		return Result{Records: []Record{{Key: []byte("tick"), Value: []byte("1")}}}
	}
	return Result{}
}

func (s *tally) Apply(r Record) { s.sums[string(r.Key)]++ }

func (s *tally) Deadline() (time.Time, bool) { return s.deadline, !s.deadline.IsZero() }

// memJournal keeps records in memory, each append taking a while.
type memJournal struct {
	mu        sync.Mutex
	records   []Record
	appends   []int         // records in each append
	delay     time.Duration // until a receipt is done
	loadDelay time.Duration
	refuse    error // what Append returns
	lose      error // what the receipt says; nothing is kept
	loadErr   error
	loads     int
}

type memReceipt struct {
	done chan struct{}
	err  error
}

func (r *memReceipt) Done() <-chan struct{} { return r.done }
func (r *memReceipt) Err() error            { return r.err }

func (j *memJournal) Load(apply func(Record) error) error {
	j.mu.Lock()
	j.loads++
	records, delay, err := slices.Clone(j.records), j.loadDelay, j.loadErr
	j.mu.Unlock()
	time.Sleep(delay)
	for _, r := range records {
		if err := apply(r); err != nil {
			return err
		}
	}
	return err
}

func (j *memJournal) Append(_ time.Time, rs []Record) (Receipt, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.appends = append(j.appends, len(rs))
	if j.refuse != nil {
		return nil, j.refuse
	}
	r := &memReceipt{done: make(chan struct{}), err: j.lose}
	if j.lose == nil {
		j.records = append(j.records, rs...)
	}
	if j.delay == 0 {
		if r.err == nil {
			return nil, nil
		}
		close(r.done)
		return r, nil
	}
	time.AfterFunc(j.delay, func() { close(r.done) })
	return r, nil
}

func (j *memJournal) set(f func(*memJournal)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(j)
}

// start returns a shell over j whose latest shard is *last.
func start(t *testing.T, j *memJournal, o ShellOptions) (s *Shell, last func() *tally) {
	t.Helper()
	var mu sync.Mutex
	var shard *tally
	o.Name, o.Journal = "test", j
	o.New = func() Shard {
		mu.Lock()
		defer mu.Unlock()
		shard = newTally()
		return shard
	}
	s = NewShell(o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if len(s.asked) != 0 {
			t.Errorf("%d callers are still remembered after Close", len(s.asked))
		}
	})
	return s, func() *tally {
		mu.Lock()
		defer mu.Unlock()
		return shard
	}
}

// answer is what one Do returned.
type answer struct {
	body any
	err  error
	at   time.Time
}

// do calls Do in a goroutine.
func do(ctx context.Context, s *Shell, body any) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		b, err := s.Do(ctx, body)
		c <- answer{b, err, time.Now()}
	}()
	synctest.Wait() // it is in the queue now
	return c
}

func want(t *testing.T, c <-chan answer, body any, err error) answer {
	t.Helper()
	a := <-c
	if a.body != body || !errors.Is(a.err, err) {
		t.Errorf("Do = %v, %v; want %v, %v", a.body, a.err, body, err)
	}
	return a
}

func TestBatchesGatherWhileAnAppendIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{delay: 10 * time.Millisecond}
		s, _ := start(t, j, ShellOptions{})
		began := time.Now()
		var answers []<-chan answer
		for range 10 {
			answers = append(answers, do(t.Context(), s, put{"a"}))
		}
		for i, c := range answers {
			a := want(t, c, i+1, nil)
			wait := 20 * time.Millisecond
			if i == 0 {
				wait = 10 * time.Millisecond
			}
			if got := a.at.Sub(began); got != wait {
				t.Errorf("answer %d after %v, want %v", i, got, wait)
			}
		}
		if !slices.Equal(j.appends, []int{1, 9}) {
			t.Errorf("appends of %v records, want [1 9]", j.appends)
		}
	})
}

func TestReadsWaitBehindTheWritesBeforeThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{delay: 10 * time.Millisecond}
		s, _ := start(t, j, ShellOptions{})
		w1 := do(t.Context(), s, put{"a"})
		w2 := do(t.Context(), s, put{"a"})
		r := do(t.Context(), s, get{"a"})
		want(t, w1, 1, nil)
		written := want(t, w2, 2, nil)
		read := want(t, r, 2, nil)
		if read.at.Before(written.at) {
			t.Errorf("the read was answered %v before the write it saw", written.at.Sub(read.at))
		}
	})
}

func TestFailedAppendThrowsTheShardAway(t *testing.T) {
	disk := errors.New("disk full")
	for _, c := range []struct {
		name     string
		fail     func(*memJournal)
		heal     func(*memJournal)
		earliest time.Duration
	}{
		{"append refuses", func(j *memJournal) { j.refuse = disk }, func(j *memJournal) { j.refuse = nil }, minReloadPause},
		{"receipt fails", func(j *memJournal) { j.lose = disk }, func(j *memJournal) { j.lose = nil }, minReloadPause},
		{"receipt fails late", func(j *memJournal) { j.lose, j.delay = disk, time.Second }, func(j *memJournal) { j.lose, j.delay = nil, 0 }, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &memJournal{}
				s, last := start(t, j, ShellOptions{})
				want(t, do(t.Context(), s, put{"a"}), 1, nil)
				parked := do(t.Context(), s, park{"z"})
				first := last()
				j.set(c.fail)
				lost := do(t.Context(), s, put{"a"})
				want(t, lost, nil, ErrNotCoordinator)
				want(t, parked, nil, ErrNotCoordinator)
				if !s.Loading() {
					t.Error("the shell serves while its journal has failed")
				}
				want(t, do(t.Context(), s, get{"a"}), nil, ErrNotCoordinator)
				j.set(c.heal)
				time.Sleep(minReloadPause)
				synctest.Wait()
				want(t, do(t.Context(), s, get{"a"}), 1, nil)
				if last() == first {
					t.Error("the shard was not thrown away")
				}
			})
		})
	}
}

func TestReloadPauseGrowsAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{loadErr: errors.New("unreadable")}
		s, _ := start(t, j, ShellOptions{})
		time.Sleep(time.Hour)
		want(t, do(t.Context(), s, get{"a"}), nil, ErrNotCoordinator)
		j.mu.Lock()
		loads := j.loads
		j.mu.Unlock()
		if least, most := 360, 370; loads < least || loads > most {
			t.Errorf("%d loads in an hour, want %d to %d", loads, least, most)
		}
		s.Post(put{"a"})
		j.set(func(j *memJournal) { j.loadErr = nil })
		time.Sleep(maxReloadPause)
		want(t, do(t.Context(), s, get{"a"}), 1, nil) // the posted event waited for it
	})
}

func TestReloadEqualsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{}
		s, last := start(t, j, ShellOptions{})
		for i := range 100 {
			s.Post(put{fmt.Sprint(i % 7)})
		}
		want(t, do(t.Context(), s, get{"0"}), 15, nil)
		live := maps.Clone(last().sums)
		s.Close()
		s2, last2 := start(t, j, ShellOptions{})
		want(t, do(t.Context(), s2, get{"0"}), 15, nil)
		if !maps.Equal(live, last2().sums) {
			t.Errorf("loaded %v, was %v", last2().sums, live)
		}
	})
}

func TestEventsWaitWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{loadDelay: time.Minute}
		s, _ := start(t, j, ShellOptions{InboxSize: 2})
		began := time.Now()
		a, b := do(t.Context(), s, put{"a"}), do(t.Context(), s, put{"a"})
		want(t, do(t.Context(), s, put{"a"}), nil, ErrLoading)
		if !s.Loading() {
			t.Error("Loading is false during the load")
		}
		want(t, a, 1, nil)
		last := want(t, b, 2, nil)
		if got := last.at.Sub(began); got != time.Minute {
			t.Errorf("answered after %v, want a minute", got)
		}
		if s.Loading() {
			t.Error("Loading is true after the load")
		}
	})
}

func TestFullInboxHoldsCallersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{delay: time.Second}
		s, _ := start(t, j, ShellOptions{InboxSize: 1})
		a := do(t.Context(), s, put{"a"}) // on its way to disk
		b := do(t.Context(), s, put{"a"}) // in the inbox
		c := do(t.Context(), s, put{"a"}) // waits for room
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		want(t, do(ctx, s, put{"a"}), nil, context.DeadlineExceeded)
		want(t, a, 1, nil)
		want(t, b, 2, nil)
		want(t, c, 3, nil)
	})
}

func TestCancelledCallersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{delay: time.Second}
		s, last := start(t, j, ShellOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		parked := do(ctx, s, park{"a"})      // kept by the shard
		busy := do(t.Context(), s, put{"b"}) // on its way to disk
		queued := do(ctx, s, put{"a"})       // in the inbox
		cancel()
		want(t, parked, nil, context.Canceled)
		want(t, queued, nil, context.Canceled)
		want(t, busy, 1, nil)
		want(t, do(t.Context(), s, get{"a"}), 1, nil) // the event was handled all the same
		s.mu.Lock()
		n := len(s.asked)
		s.mu.Unlock()
		if n != 0 {
			t.Errorf("%d callers remembered, want none", n)
		}
		if len(last().parked) != 0 {
			t.Error("the put did not unpark the caller that left")
		}
	})
}

func TestParkedCallersAreAnsweredLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{delay: time.Second}
		s, _ := start(t, j, ShellOptions{})
		a, b := do(t.Context(), s, park{"a"}), do(t.Context(), s, park{"a"})
		time.Sleep(time.Hour)
		w := want(t, do(t.Context(), s, put{"a"}), 1, nil)
		for _, c := range []<-chan answer{a, b} {
			if got := want(t, c, "unparked", nil); got.at.Before(w.at) {
				t.Error("a parked caller heard of a record that was not durable")
			}
		}
	})
}

func TestTickComesAtTheDeadlineAndAfterTheInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{}
		s, last := start(t, j, ShellOptions{})
		want(t, do(t.Context(), s, alarm{time.Minute}), "armed", nil)
		time.Sleep(time.Minute - time.Millisecond)
		want(t, do(t.Context(), s, get{"tick"}), 0, nil)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		want(t, do(t.Context(), s, get{"tick"}), 1, nil)

		// The deadline passes while the disk is slow: who waited comes first.
		want(t, do(t.Context(), s, alarm{time.Second}), "armed", nil)
		j.set(func(j *memJournal) { j.delay = time.Minute })
		slow := do(t.Context(), s, put{"a"})
		late := do(t.Context(), s, get{"tick"})
		want(t, slow, 1, nil)
		want(t, late, 1, nil)
		if h := last().handled; h[len(h)-1] != "coordinator.Tick" || h[len(h)-2] != "coordinator.get" {
			t.Errorf("handled %v, want the tick after the waiting event", h)
		}
	})
}

func TestCloseAnswersEverybody(t *testing.T) {
	t.Run("parked, queued, blocked and appending", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := &memJournal{delay: time.Hour}
			s, _ := start(t, j, ShellOptions{InboxSize: 1})
			var all []<-chan answer
			for _, e := range []any{park{"a"}, put{"a"}, put{"a"}, put{"a"}} {
				all = append(all, do(t.Context(), s, e))
			}
			s.Close()
			for _, c := range all {
				want(t, c, nil, ErrClosed)
			}
			want(t, do(t.Context(), s, get{"a"}), nil, ErrClosed)
			s.Post(put{"a"}) // no effect, no panic
			s.Close()
			time.Sleep(time.Hour)
		})
	})
	t.Run("loading", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := &memJournal{loadDelay: time.Second, records: make([]Record, 3)}
			s, _ := start(t, j, ShellOptions{})
			c := do(t.Context(), s, get{"a"})
			s.Close()
			want(t, c, nil, ErrClosed)
		})
	})
	t.Run("failed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := &memJournal{loadErr: errors.New("unreadable")}
			s, _ := start(t, j, ShellOptions{})
			synctest.Wait()
			s.Close()
			want(t, do(t.Context(), s, get{"a"}), nil, ErrClosed)
		})
	})
}

func TestCommittedBeforeRepliesBeforeErrands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{}
		var mu sync.Mutex
		var story []string
		tell := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			story = append(story, s)
		}
		var s *Shell
		s, _ = start(t, j, ShellOptions{
			Committed: func(sh Shard) { tell(fmt.Sprint("committed ", sh.(*tally).sums["a"])) },
			Errands: func(es []Errand) {
				tell(fmt.Sprint("errands ", es))
				s.Post(put{"a"}) // does not block
			},
		})
		want(t, do(t.Context(), s, put{"a"}), 1, nil)
		tell("answered")
		want(t, do(t.Context(), s, errand{"x"}), "sent", nil)
		want(t, do(t.Context(), s, get{"a"}), 2, nil)
		mu.Lock()
		defer mu.Unlock()
		wanted := []string{"committed 0", "committed 1", "answered", "errands [x]", "committed 2"}
		if !slices.Equal(story, wanted) {
			t.Errorf("story %q, want %q", story, wanted)
		}
	})
}

// greeter is a tally that writes a record when it was loaded.
type greeter struct{ *tally }

func (g greeter) Loaded(time.Time) Result {
	return Result{Records: []Record{{Key: []byte("loads")}}}
}

func TestLoadedShardActsBeforeItsFirstEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &memJournal{}
		for i := range 3 {
			s := NewShell(ShellOptions{Name: "test", Journal: j, New: func() Shard { return greeter{newTally()} }})
			want(t, do(t.Context(), s, get{"loads"}), i+1, nil)
			s.Close()
		}
	})
}

func TestRepliesThatAreErrorsAreReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := errors.New("a reply")
		s := NewShell(ShellOptions{Name: "test", Journal: &memJournal{}, New: func() Shard { return errorShard{e} }})
		defer s.Close()
		want(t, do(t.Context(), s, 1), e, nil)
	})
}

type errorShard struct{ err error }

func (s errorShard) Handle(_ time.Time, e Event) Result {
	return Result{Replies: []Reply{{To: e.Token, Body: s.err}}}
}
func (errorShard) Apply(Record)                {}
func (errorShard) Deadline() (time.Time, bool) { return time.Time{}, false }
