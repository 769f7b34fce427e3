package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	groupPartitions = 6
	// groupSession is the session timeout of members that are killed: the
	// shortest that a broker allows by default.
	groupSession = 6 * time.Second
	// groupWithin is how long a step may take that waits for a group.
	groupWithin = 45 * time.Second
	// groupTick is the time between two records of a partition.
	groupTick = 100 * time.Millisecond
)

// groupScenario is a group, its topic, its members and what happened to them.
type groupScenario struct {
	client string
	title  string // of the way
	way    groupWay
	name   string // of topic and group
	static bool   // members are
	ref    *reference
	main   *groupProcess // members that stay
	crash  *groupProcess // members that are killed

	mu     sync.Mutex
	events []groupEvent
	live   *groupJudge // in the order of arrival
	last   string      // the last error of a member
	joined map[string]*groupProcess
	sent   [groupPartitions]int64 // records that the broker has acknowledged
}

func (s *groupScenario) see(e groupEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	s.live.see(e)
	if e.Event == "error" || e.Event == "not-committed" {
		s.last = e.Member + ": " + e.Text
	}
}

// full is a member's name among those of all scenarios.
func (s *groupScenario) full(member string) string { return s.name + "." + member }

func (s *groupScenario) join(p *groupProcess, members ...string) error {
	return s.joinAs(p, s.way, members...)
}

func (s *groupScenario) joinAs(p *groupProcess, w groupWay, members ...string) error {
	for _, m := range members {
		c := groupCommand{Op: "join", Member: s.full(m), Group: s.name, Topic: s.name, Protocol: w.protocol, Assignors: w.assignors, Regex: w.regex}
		if s.static {
			c.Instance = s.full(m)
		}
		if w.protocol == "classic" {
			c.SessionMs = int(groupSession.Milliseconds())
		}
		s.mu.Lock()
		s.joined[m] = p
		s.mu.Unlock()
		if err := p.send(c, s.see); err != nil {
			return err
		}
	}
	return nil
}

// do sends a command and waits for the event that says that it was carried
// out; able is false if the client cannot.
func (s *groupScenario) do(ctx context.Context, c groupCommand, event string) (e groupEvent, able bool, err error) {
	s.mu.Lock()
	from := len(s.events)
	p := s.joined[c.Member]
	s.mu.Unlock()
	c.Member = s.full(c.Member)
	if err := p.send(c, s.see); err != nil {
		return e, false, err
	}
	err = s.wait(ctx, func() error {
		for _, e = range s.events[from:] {
			if e.Member == c.Member && (e.Event == event || e.Event == "unable" || e.Event == "error" || e.Event == "not-"+event) {
				return nil
			}
		}
		return fmt.Errorf("%s was told to %s and did not say %s", c.Member, c.Op, event)
	})
	if err == nil && e.Event != event && e.Event != "unable" {
		err = fmt.Errorf("%s was told to %s: %s", c.Member, c.Op, e.Text)
	}
	return e, err == nil && e.Event == event, err
}

// wait waits until f, called with the scenario locked, has nothing to complain of.
func (s *groupScenario) wait(ctx context.Context, f func() error) error {
	err := eventuallyIn(ctx, groupWithin, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return f()
	})
	if err != nil && s.last != "" {
		err = fmt.Errorf("%w (last error of a member: %s)", err, s.last)
	}
	return err
}

// settled waits until the members, and no others, share the partitions evenly
// and each partition's owner gets new records.
func (s *groupScenario) settled(ctx context.Context, members ...string) error {
	return s.wait(ctx, func() error {
		for _, m := range members {
			own := s.live.owned(s.full(m))
			if len(own) != groupPartitions/len(members) {
				return fmt.Errorf("%s has partitions %v, want %d of them; owners: %s", m, own, groupPartitions/len(members), s.owners())
			}
			for _, p := range own {
				if s.live.partitions[p].fresh == 0 {
					return fmt.Errorf("%s got no record of its partition %d", m, p)
				}
			}
		}
		return nil
	})
}

func (s *groupScenario) owners() string {
	var out []string
	for p := range int32(groupPartitions) {
		out = append(out, fmt.Sprintf("%d=%s", p, strings.TrimPrefix(s.live.partitions[p].owner, s.name+".")))
	}
	return strings.Join(out, " ")
}

// more waits until each partition of the members has so many more records delivered.
func (s *groupScenario) more(ctx context.Context, n int, members ...string) error {
	s.mu.Lock()
	from := map[int32]int64{}
	for _, m := range members {
		for _, p := range s.live.owned(s.full(m)) {
			from[p] = s.live.partitions[p].end
		}
	}
	s.mu.Unlock()
	return s.wait(ctx, func() error {
		for p, end := range from {
			if got := s.live.partitions[p].end; got < end+int64(n) {
				return fmt.Errorf("partition %d got from %d to %d, want %d more", p, end, got, n)
			}
		}
		return nil
	})
}

// caughtUp waits until all that has been produced by now was delivered.
func (s *groupScenario) caughtUp(ctx context.Context) error {
	s.mu.Lock()
	sent := s.sent
	s.mu.Unlock()
	return s.wait(ctx, func() error {
		for p, want := range sent {
			if got := s.live.partitions[int32(p)].end; got < want {
				return fmt.Errorf("%d of %d records of partition %d were delivered; owners: %s", got, want, p, s.owners())
			}
		}
		return nil
	})
}

// leave has members leave, all at once.
func (s *groupScenario) leave(ctx context.Context, members ...string) error {
	var wg sync.WaitGroup
	errs := make([]error, len(members))
	for i, m := range members {
		wg.Go(func() { _, _, errs[i] = s.do(ctx, groupCommand{Op: "close", Member: m}, "closed") })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// groupOffsets are the committed offsets of the group.
func (s *groupScenario) groupOffsets(ctx context.Context) (map[int32]int64, error) {
	found, err := s.ref.admin.FetchOffsets(ctx, s.name)
	if err == nil {
		err = found.Error()
	}
	out := map[int32]int64{}
	found.Each(func(o kadm.OffsetResponse) { out[o.Partition] = o.At })
	return out, err
}

// produce writes a record to each partition of each topic at every tick until
// ctx ends, and then waits for the last answers.
func produceTicks(ctx context.Context, bootstrap string, scenarios []*groupScenario) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ClientID("compat"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(5*time.Millisecond), kgo.RequestTimeoutOverhead(5*time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	var mu sync.Mutex
	var failure error
	tick := time.NewTicker(groupTick)
	defer tick.Stop()
	for i := int64(0); ctx.Err() == nil; i++ {
		for _, s := range scenarios {
			for p := range int32(groupPartitions) {
				cl.Produce(context.Background(), &kgo.Record{Topic: s.name, Partition: p, Key: []byte(groupKey(p, i)), Value: []byte("value")}, func(r *kgo.Record, err error) {
					if err != nil || r.Offset != i {
						mu.Lock()
						defer mu.Unlock()
						failure = errors.Join(err, fmt.Errorf("record %d of %s-%d got offset %d", i, s.name, p, r.Offset))
						return
					}
					s.mu.Lock()
					defer s.mu.Unlock()
					s.sent[p] = i + 1
				})
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	flush, cancel := context.WithTimeout(context.Background(), groupWithin)
	defer cancel()
	err = cl.Flush(flush)
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(err, failure)
}

// verdict is the judgement of all that happened; the last of it, when members have left.
func (s *groupScenario) verdict(ctx context.Context) (string, error) {
	s.mu.Lock()
	j := judgeEvents(s.events, groupPartitions)
	sent := s.sent
	s.mu.Unlock()
	if len(j.complaints) > 0 {
		return "", errors.New(strings.Join(j.complaints, "; "))
	}
	committed, err := s.groupOffsets(ctx)
	if err != nil {
		return "", err
	}
	for p, want := range sent {
		if got := j.partitions[int32(p)].end; got != want {
			return "", fmt.Errorf("partition %d: %d records were delivered, %d produced", p, got, want)
		}
		if got := committed[int32(p)]; got != want {
			return "", fmt.Errorf("partition %d: %d is committed, want the end, %d", p, got, want)
		}
	}
	return fmt.Sprintf("%d records, %d of them again", j.records, j.repeats), nil
}

// memberOf are the partitions of a member, in order.
func (s *groupScenario) memberOf(m string) []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.live.owned(s.full(m)))
}
