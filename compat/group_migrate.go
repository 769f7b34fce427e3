package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupMigration is groups that go from the classic protocol to the consumer
// protocol and back while they are in use: member after member leaves and comes
// again with the other protocol.
func (b *bench) groupMigration(ctx context.Context, t *target, ref *reference, clients []groupClient) error {
	var scenarios []*groupScenario
	for _, c := range clients {
		// Not librdkafka's cooperative-sticky: it puts user data into assignments, and Kafka refuses to take that along.
		way := c.ways[0]
		bothWays := slices.ContainsFunc(c.ways, func(w groupWay) bool { return w.protocol == "consumer" })
		if !bothWays || !b.wants("groups", c.name, "migration") {
			continue
		}
		if c.missing != "" {
			b.report.add(result{suite: "group migration", client: "classic", check: c.name, outcome: notRun, reason: c.missing})
			continue
		}
		p, err := c.start(b.log, ref.bootstrap)
		if err != nil {
			return err
		}
		defer p.close()
		s := newGroupScenario(ref, c.name, way, "group-migration-"+c.name)
		s.title, s.main = "classic to consumer and back", p
		scenarios = append(scenarios, s)
		if err := s.prepare(ctx); err != nil {
			return err
		}
	}
	if len(scenarios) == 0 {
		return nil
	}
	producing, stop := context.WithCancel(ctx)
	defer stop()
	produced := make(chan error, 1)
	go func() { produced <- produceTicks(producing, t.bootstrap, scenarios) }()
	members := []string{"a", "b", "c"}
	return b.groupPhases(ctx, "group migration", scenarios, []groupPhase{
		{"classic", nil, func(ctx context.Context, s *groupScenario) error {
			return errors.Join(s.join(s.main, members...), s.settled(ctx, members...), s.hasType(ctx, "classic"))
		}},
		{"to consumer", func(context.Context) error {
			// Kafka ends a generation on the way to classic, and librdkafka takes that for a loss.
			for _, s := range scenarios {
				s.see(groupEvent{At: time.Now().UnixMicro(), Event: "may-lose"})
			}
			return nil
		}, func(ctx context.Context, s *groupScenario) error {
			return s.roll(ctx, groupWay{protocol: "consumer"}, members)
		}},
		{"to classic", nil, func(ctx context.Context, s *groupScenario) error { return s.roll(ctx, s.way, members) }},
		{"all", func(context.Context) error {
			stop()
			return <-produced
		}, func(ctx context.Context, s *groupScenario) error { return groupEndsWith(ctx, s, members) }},
	})
}

// roll has member after member leave and come again with another protocol; the group is of its type then.
func (s *groupScenario) roll(ctx context.Context, w groupWay, members []string) error {
	for _, m := range members {
		if err := s.leave(ctx, m); err != nil {
			return err
		}
		if err := s.joinAs(s.main, w, m); err != nil {
			return err
		}
		if err := s.settled(ctx, members...); err != nil {
			return fmt.Errorf("after %s came again: %w", m, err)
		}
	}
	return s.hasType(ctx, w.protocol)
}

// hasType checks the type that the broker tells of the group: classic or consumer.
func (s *groupScenario) hasType(ctx context.Context, want string) error {
	return s.ref.groupType(ctx, s.name, want)
}

func (r *reference) groupType(ctx context.Context, group, want string) error {
	return eventually(ctx, func() error {
		resp, err := kmsg.NewPtrListGroupsRequest().RequestWith(ctx, r.cl)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(resp.Groups, func(g kmsg.ListGroupsResponseGroup) bool { return g.Group == group })
		if i < 0 {
			return fmt.Errorf("the broker does not list group %s", group)
		}
		if got := resp.Groups[i].GroupType; !strings.EqualFold(got, want) {
			return fmt.Errorf("the broker says that the group is of the type %s, want %s", got, want)
		}
		return nil
	})
}
