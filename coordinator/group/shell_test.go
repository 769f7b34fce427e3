package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
)

// slowJournal keeps records in memory after a while, or fails.
type slowJournal struct {
	mu      sync.Mutex
	records []coordinator.Record
	fail    bool
}

type receipt chan struct{}

func (r receipt) Done() <-chan struct{} { return r }
func (receipt) Err() error              { return nil }

func (j *slowJournal) Load(apply func(coordinator.Record) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		if err := apply(r); err != nil {
			return err
		}
	}
	return nil
}

func (j *slowJournal) Append(_ time.Time, rs []coordinator.Record) (coordinator.Receipt, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail {
		j.fail = false
		return nil, errors.New("disk full")
	}
	j.records = append(j.records, rs...)
	r := make(receipt)
	time.AfterFunc(5*time.Millisecond, func() { close(r) })
	return r, nil
}

// TestUnderShell lets two members join over a shell with its real timers, makes
// the journal fail in the middle, and lets them go on.
func TestUnderShell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &slowJournal{}
		ids := 0
		o := DefaultOptions(func(c string) string { ids++; return fmt.Sprintf("%s-%d", c, ids) }, nil)
		s := coordinator.NewShell(coordinator.ShellOptions{Name: "test", New: func() coordinator.Shard { return New(o) }, Journal: j})
		defer s.Close()

		began := time.Now()
		var wg sync.WaitGroup
		joined := make([]*kmsg.JoinGroupResponse, 2)
		for i := range joined {
			wg.Go(func() {
				r, err := s.Do(t.Context(), readEvent("join", args{"version": "3"}))
				if err != nil {
					t.Errorf("join: %v", err)
					return
				}
				joined[i] = r.(*kmsg.JoinGroupResponse)
			})
		}
		wg.Wait()
		if d := time.Since(began); d != 6*time.Second || joined[0].Generation != 1 || joined[1].Generation != 1 {
			t.Fatalf("joined after %v: %+v %+v", d, joined[0], joined[1])
		}
		leader := slices.IndexFunc(joined, func(r *kmsg.JoinGroupResponse) bool { return r.LeaderID == r.MemberID })
		follower := joined[1-leader]

		// The follower waits for its assignment when the journal fails.
		waits := make(chan error, 1)
		go func() {
			_, err := s.Do(t.Context(), readEvent("sync", args{"member": follower.MemberID}))
			waits <- err
		}()
		synctest.Wait()
		j.mu.Lock()
		j.fail = true
		j.mu.Unlock()
		if _, err := s.Do(t.Context(), readEvent("sync", args{"member": follower.LeaderID})); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("sync of the leader: %v", err)
		}
		if err := <-waits; !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Errorf("sync of the follower: %v", err)
		}

		// The group was Empty in the journal, and is again.
		time.Sleep(time.Second)
		r, err := s.Do(t.Context(), Describe{Group: "g"})
		if d, _ := r.(kmsg.DescribeGroupsResponseGroup); err != nil || d.State != "Empty" {
			t.Errorf("describe: %v %v", r, err)
		}

		// A member whose caller has left is removed when its session ends.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Do(ctx, readEvent("join", args{"version": "3"})); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("join: %v", err)
		}
		time.Sleep(2*time.Second + 45*time.Second + 100*time.Millisecond)
		r, err = s.Do(t.Context(), Count{})
		if c, _ := r.(Counts); err != nil || c.Empty != 1 {
			t.Errorf("count: %+v %v", r, err)
		}
	})
}
