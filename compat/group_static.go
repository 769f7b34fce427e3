package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// groupStatic is static members (KIP-345): one that goes and comes again, in another process, gets what it had, and the
// other one notices nothing.
func (b *bench) groupStatic(ctx context.Context, t *target, ref *reference, clients []groupClient) error {
	var scenarios []*groupScenario
	for _, c := range clients {
		if c.missing != "" || len(c.static) == 0 || !b.wants("groups", c.name, "static") {
			continue // that it is missing is told by the matrix
		}
		main, err1 := c.start(b.log, ref.bootstrap)
		other, err2 := c.start(b.log, ref.bootstrap)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		defer main.close()
		defer other.close()
		for _, w := range c.static {
			s := newGroupScenario(ref, c.name, w, groupName("group-static", c, w))
			s.static, s.main, s.crash = true, main, other
			scenarios = append(scenarios, s)
			if err := s.prepare(ctx); err != nil {
				return err
			}
		}
	}
	if len(scenarios) == 0 {
		return nil
	}
	producing, stop := context.WithCancel(ctx)
	defer stop()
	produced := make(chan error, 1)
	go func() { produced <- produceTicks(producing, t.bootstrap, scenarios) }()
	return b.groupPhases(ctx, "group static", scenarios, []groupPhase{
		{"join", nil, func(ctx context.Context, s *groupScenario) error {
			return errors.Join(s.join(s.main, "a"), s.settled(ctx, "a"), s.join(s.main, "b"), s.settled(ctx, "a", "b"))
		}},
		{"comes again", nil, staticReturns},
		{"all", func(context.Context) error {
			stop()
			return <-produced
		}, groupEnds},
	})
}

// staticReturns has b close its client and come again from another process.
func staticReturns(ctx context.Context, s *groupScenario) error {
	if err := s.more(ctx, 3, "a", "b"); err != nil { // a rebalance that follows the joins is over
		return err
	}
	had := s.memberOf("b")
	s.mu.Lock()
	from := len(s.events)
	s.mu.Unlock()
	if err := s.leave(ctx, "b"); err != nil {
		return err
	}
	if err := errors.Join(s.join(s.crash, "b"), s.settled(ctx, "a", "b")); err != nil {
		return err
	}
	if got := s.memberOf("b"); !slices.Equal(got, had) {
		return fmt.Errorf("b came again and has partitions %v, it had %v", got, had)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events[from:] {
		if e.Member == s.full("a") && slices.Contains([]string{"assigned", "revoked", "lost"}, e.Event) {
			return fmt.Errorf("a was told that partitions %v are %s while b was away", e.Partitions, e.Event)
		}
	}
	return nil
}
