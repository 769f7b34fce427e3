package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupPhase is a step that all scenarios take side by side, behind what is
// done once for all of them.
type groupPhase struct {
	name   string
	before func(ctx context.Context) error // nil = nothing
	run    func(ctx context.Context, s *groupScenario) error
}

// groupMatrix is the table of clients and protocols, of what a group promises.
func (b *bench) groupMatrix(ctx context.Context, t *target, ref *reference, clients []groupClient) error {
	scenarios, processes, err := b.groupScenarios(ctx, ref, clients)
	defer func() {
		for _, p := range processes {
			p.close()
		}
	}()
	if err != nil || len(scenarios) == 0 {
		return err
	}
	crashes := map[*groupProcess]bool{}
	for _, s := range scenarios {
		crashes[s.crash] = true
	}
	producing, stop := context.WithCancel(ctx)
	defer stop()
	produced := make(chan error, 1)
	go func() { produced <- produceTicks(producing, t.bootstrap, scenarios) }()
	phases := []groupPhase{
		{"join", nil, groupJoins},
		{"1 to 3", nil, groupGrows},
		{"commit", nil, groupCommits},
		{"pause", nil, groupPauses},
		{"seek", nil, groupSeeks},
		{"3 to 1", nil, groupShrinks},
		{"crash", nil, groupCrashJoins},
		{"crash", func(context.Context) error {
			var errs []error
			for p := range crashes {
				errs = append(errs, p.kill())
			}
			return errors.Join(errs...)
		}, groupCrashes},
		{"restart", func(context.Context) error {
			for _, s := range scenarios {
				s.see(groupEvent{At: time.Now().UnixMicro(), Event: "may-lose"})
			}
			return errors.Join(t.Kill(), t.Start())
		}, groupRestarts},
		{"all", func(context.Context) error {
			stop()
			return <-produced
		}, groupEnds},
	}
	return b.groupPhases(ctx, "group members", scenarios, phases)
}

// groupPhases runs phases until the end, each scenario until it fails.
func (b *bench) groupPhases(ctx context.Context, suite string, scenarios []*groupScenario, phases []groupPhase) error {
	broken := make([]bool, len(scenarios))
	for _, phase := range phases {
		if phase.before != nil {
			if err := phase.before(ctx); err != nil {
				return fmt.Errorf("%s: %w", phase.name, err)
			}
		}
		var wg sync.WaitGroup
		for i, s := range scenarios {
			if broken[i] {
				continue
			}
			wg.Go(func() {
				began := time.Now()
				err := phase.run(ctx, s)
				if err != nil {
					broken[i] = true
					err = errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
					s.abandon()
					err = errors.Join(err, s.dump(b.work))
				}
				b.report.note(suite, phase.name, s.client+" "+s.title, time.Since(began), "", err)
			})
		}
		wg.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// abandon has all members leave, without waiting: the scenario failed.
func (s *groupScenario) abandon() {
	s.mu.Lock()
	joined := maps.Clone(s.joined)
	s.mu.Unlock()
	for m, p := range joined {
		// A process that has ended has no member to leave.
		_ = p.send(groupCommand{Op: "close", Member: s.full(m)}, s.see)
	}
}

// dump writes down all events, to find out what happened.
func (s *groupScenario) dump(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, e := range s.events {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, s.name+".events"), out.Bytes(), 0o644)
}

// groupScenarios are a scenario for each way of each client, with their processes started and their topics created.
func (b *bench) groupScenarios(ctx context.Context, ref *reference, clients []groupClient) (scenarios []*groupScenario, started []*groupProcess, err error) {
	for _, c := range clients {
		var ways []groupWay
		for _, w := range c.ways {
			if b.wants("groups", c.name, w.String()) {
				ways = append(ways, w)
			}
		}
		if len(ways) == 0 {
			continue
		}
		if c.missing != "" {
			b.report.add(result{suite: "group members", client: "join", check: c.name, outcome: notRun, reason: c.missing})
			continue
		}
		main, err1 := c.start(b.log, ref.bootstrap)
		crash, err2 := c.start(b.log, ref.bootstrap)
		if err := errors.Join(err1, err2); err != nil {
			return scenarios, started, err
		}
		started = append(started, main)
		for _, w := range ways {
			s := newGroupScenario(ref, c.name, w, groupName("group", c, w))
			s.main, s.crash = main, crash
			scenarios = append(scenarios, s)
			if err := s.prepare(ctx); err != nil {
				return scenarios, started, err
			}
		}
	}
	return scenarios, started, nil
}

// groupName is the name of a scenario's topic and group.
func groupName(prefix string, c groupClient, w groupWay) string {
	return prefix + "-" + c.name + "-" + strings.NewReplacer(" ", "-", ",", "-").Replace(w.String())
}

func newGroupScenario(ref *reference, client string, w groupWay, name string) *groupScenario {
	return &groupScenario{client: client, title: w.String(), way: w, name: name, ref: ref,
		live: newGroupJudge(groupPartitions), joined: map[string]*groupProcess{}}
}

// prepare makes what the scenario needs on the broker.
func (s *groupScenario) prepare(ctx context.Context) error {
	if err := s.ref.create(ctx, s.name, groupPartitions); err != nil {
		return err
	}
	if s.client != "confluent-kafka" {
		return nil
	}
	// librdkafka waits for the answer to a heartbeat no longer than the interval, and the next one does not ask again: an
	// assignment in an answer that comes late is lost, and the group stays unbalanced. So it is with Apache Kafka, too. On a
	// busy machine that is a matter of time with an interval of a second.
	interval := "3000"
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, s.name
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = "consumer.heartbeat.interval.ms", &interval
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, s.ref.cl)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Resources[0].ErrorCode)
}

func groupJoins(ctx context.Context, s *groupScenario) error {
	return errors.Join(s.join(s.main, "a"), s.settled(ctx, "a"), s.hasType(ctx, s.way.protocol))
}

func groupGrows(ctx context.Context, s *groupScenario) error {
	return errors.Join(s.join(s.main, "b", "c"), s.settled(ctx, "a", "b", "c"))
}

// groupCommits holds what the group says is committed against what the member was told.
func groupCommits(ctx context.Context, s *groupScenario) error {
	for _, op := range []string{"commit", "commit-async"} {
		if err := s.more(ctx, 1, "a"); err != nil {
			return err
		}
		e, able, err := s.do(ctx, groupCommand{Op: op, Member: "a"}, "committed")
		if err != nil {
			return err
		}
		if !able {
			continue
		}
		if len(e.Offsets) != groupPartitions/3 {
			return fmt.Errorf("%s: the member committed %v, want an offset for each of its partitions", op, e.Offsets)
		}
		committed, err := s.groupOffsets(ctx)
		if err != nil {
			return err
		}
		for p, want := range e.Offsets {
			if committed[p] != want {
				return fmt.Errorf("%s: the group says %d of partition %d, the member committed %d", op, committed[p], p, want)
			}
		}
	}
	return nil
}

// groupPauses pauses a member: the others go on without it, and then it catches up. The judge knows that nothing may
// come meanwhile.
func groupPauses(ctx context.Context, s *groupScenario) error {
	if _, able, err := s.do(ctx, groupCommand{Op: "pause", Member: "b"}, "paused"); err != nil || !able {
		return err
	}
	if err := s.more(ctx, 10, "a", "c"); err != nil {
		return err
	}
	if _, _, err := s.do(ctx, groupCommand{Op: "resume", Member: "b"}, "resumed"); err != nil {
		return err
	}
	return s.caughtUp(ctx)
}

// groupSeeks goes back to the start of a partition. The judge knows what comes first then.
func groupSeeks(ctx context.Context, s *groupScenario) error {
	own := s.memberOf("c")
	if len(own) == 0 {
		return errors.New("c has no partition")
	}
	p := own[0]
	_, able, err := s.do(ctx, groupCommand{Op: "seek", Member: "c", Partition: p, Offset: 3}, "sought")
	if err != nil || !able {
		return err
	}
	return s.wait(ctx, func() error {
		if part := s.live.partitions[p]; part.next < part.end {
			return fmt.Errorf("it went back to 3 and has come to %d, before %d", part.next, part.end)
		}
		return nil
	})
}

func groupShrinks(ctx context.Context, s *groupScenario) error {
	return errors.Join(s.leave(ctx, "b", "c"), s.settled(ctx, "a"))
}

func groupCrashJoins(ctx context.Context, s *groupScenario) error {
	return errors.Join(s.join(s.crash, "victim"), s.settled(ctx, "a", "victim"))
}

func groupCrashes(ctx context.Context, s *groupScenario) error {
	return errors.Join(s.settled(ctx, "a"), s.caughtUp(ctx))
}

// groupRestarts sees the group go on after its broker was killed and came again, and then grow.
func groupRestarts(ctx context.Context, s *groupScenario) error {
	if err := s.more(ctx, 3, "a"); err != nil {
		return err
	}
	return errors.Join(s.join(s.main, "b"), s.settled(ctx, "a", "b"))
}

func groupEnds(ctx context.Context, s *groupScenario) error {
	return groupEndsWith(ctx, s, []string{"a", "b"})
}

// groupEndsWith has the members leave after the last record came, and judges.
func groupEndsWith(ctx context.Context, s *groupScenario, members []string) error {
	if err := s.caughtUp(ctx); err != nil {
		return err
	}
	for _, m := range members {
		if _, _, err := s.do(ctx, groupCommand{Op: "commit", Member: m}, "committed"); err != nil {
			return err
		}
	}
	if err := s.leave(ctx, members...); err != nil {
		return err
	}
	_, err := s.verdict(ctx)
	return err
}
