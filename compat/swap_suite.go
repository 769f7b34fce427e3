package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// swapRounds is how often the data directory goes to the other broker and back.
	swapRounds = 3
	swapWithin = 5 * time.Minute
	// swapPatience is how long a broker may take for what it does in the background.
	swapPatience = 15 * time.Second
)

var (
	// swapSettings make both brokers delete, compact and make snapshots of their metadata while
	// the check runs.
	swapSettings = []string{"log.cleaner.backoff.ms=200", "log.initial.task.delay.ms=300", "log.retention.check.interval.ms=300",
		"log.segment.delete.delay.ms=500", "log.flush.start.offset.checkpoint.interval.ms=300",
		"metadata.log.max.record.bytes.between.snapshots=10000"}
	// swapKafkaSettings are what Kafka needs to keep what Rotpeter does not serve yet, to have few
	// partitions of internal topics, and not to wait 9 seconds for the session of a killed broker.
	swapKafkaSettings = []string{"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:ANONYMOUS",
		"offsets.topic.num.partitions=5", "transaction.state.log.num.partitions=3", "share.coordinator.state.topic.num.partitions=2",
		"broker.session.timeout.ms=4000", "broker.heartbeat.interval.ms=1000"}
)

// swap is one data directory that two brokers serve in turn.
type swap struct {
	b         *bench
	java      *javaTools
	kafka     *target
	rotpeter  *target
	logs      map[*target]*tap
	bootstrap string
	filled    time.Time

	idem     *kgo.Client    // one idempotent client that lives through all swaps
	sequence int            // of its records
	open     [2]*kgo.Client // transactional clients in the middle of a transaction
	raw      []*rawProducer
	busy     busyClient
	lastID   int64 // the greatest producer id that was given

	onlyKafka []section // what only Kafka shows, when it last had the directory
	tools     []section // what Kafka's tools printed at the beginning
}

// swapChecks has Apache Kafka fill a data directory, and then takes it back and forth between
// the two brokers, by clean stops and by SIGKILL in turn. After each change of hands everything
// that can be seen of the data must be as the other broker showed it, and what Rotpeter left is
// read by kafka-dump-log file by file. Nothing in it is random.
func (b *bench) swapChecks(ctx context.Context) error {
	if b.target == "kafka" {
		return nil // there is nothing to swap
	}
	java, err := b.cache.java()
	if err != nil {
		b.report.add(result{suite: "swap", client: "kafka", check: "data directory", outcome: notRun, reason: err.Error()})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, swapWithin)
	defer cancel()
	s := &swap{b: b, java: java, logs: map[*target]*tap{}, lastID: -1}
	if s.rotpeter, err = b.newTarget("swap", swapSettings...); err != nil {
		return err
	}
	s.kafka = newKafka(java, b.work, b.log, slices.Concat(swapSettings, swapKafkaSettings))
	s.kafka.data = s.rotpeter.data
	defer s.end()
	if err := s.begin(ctx); err != nil {
		return err
	}
	from, to := s.kafka, s.rotpeter
	for turn := range 2 * swapRounds {
		if err := s.turn(ctx, from, to, turn); err != nil {
			b.report.note("swap", s.name(to, turn), "takes over", 0, "", err)
			return nil // the rest would fail for the same reason
		}
		from, to = to, from
	}
	s.strays(ctx, "at the end")
	began := time.Now()
	err = from.Stop()
	b.report.note("broker", "swap", "stops cleanly on SIGTERM", time.Since(began), "", err)
	return nil
}

// begin starts Kafka and fills it.
func (s *swap) begin(ctx context.Context) error {
	for _, t := range []*target{s.kafka, s.rotpeter} {
		s.logs[t] = &tap{to: s.b.log}
		t.log = s.logs[t]
	}
	began := time.Now()
	if err := s.kafka.Start(); err != nil {
		return err
	}
	if err := s.started(ctx, s.kafka); err != nil {
		return err
	}
	s.bootstrap = s.kafka.bootstrap
	s.rotpeter.bootstrap = s.bootstrap
	if err := s.fill(ctx); err != nil {
		return fmt.Errorf("fill Kafka: %w", err)
	}
	var err error
	if s.onlyKafka, err = s.kafkaView(ctx); err != nil {
		return fmt.Errorf("what only Kafka shows: %w", err)
	}
	if s.tools, err = s.toolsShow(ctx); err != nil {
		return err
	}
	seen, err := s.view(ctx)
	if err == nil {
		err = whole(slices.Concat(seen, s.onlyKafka, s.tools))
	}
	s.b.report.note("swap", "0 kafka", "is filled with every kind of data", time.Since(began), "", err)
	return nil
}

func (s *swap) end() {
	for _, cl := range append(s.open[:], s.idem, s.busy.cl) {
		if cl != nil {
			cl.Close()
		}
	}
	for _, t := range []*target{s.kafka, s.rotpeter} {
		if t.cmd != nil {
			t.Kill()
		}
	}
}

// whole checks that what Kafka was filled with has something of every kind that the suite is
// about: otherwise it would agree about nothing.
func whole(all []section) error {
	var text strings.Builder
	for _, sec := range all {
		for _, line := range sec.lines {
			fmt.Fprintf(&text, "%s: %s\n", sec.name, line)
		}
	}
	var missing []error
	for _, want := range []string{
		`every batch: swap-plain-\d .*\(none\)`, `every batch: swap-plain-\d .*\(gzip\)`, `every batch: swap-plain-\d .*\(snappy\)`, `every batch: swap-plain-\d .*\(lz4\)`, `every batch: swap-plain-\d .*\(zstd\)`,
		`every batch: swap-times-0 .*\(lz4, append time\)`, `every batch: swap-txn-\d .*transactional, control\)`, `every batch: swap-cleaned-0 .*horizon\)`,
		`every batch: swap-retained-0 starts at [1-9]`, `every batch: swap-old-0 starts at 2500`, `every batch: swap-plain-1 starts at [1-9]`,
		`read_committed: swap-txn-\d aborted: producer`, `offsets and times: swap-open-0 is stable to 10,`,
		`swap-new-group is of type consumer, .* Empty`, `swap-member-group is of type consumer, .* Stable`, `swap-share-group is of type share`, `swap-readers is of type classic, protocol "consumer"`, `swap-group is of type classic, protocol ""`,
		`swap-new-group commits swap-plain-0 at [1-9]`, `swap-offsets-group commits swap-txn-0 at 3,.* error 0`, `swap-offsets-group commits for sure .* error 88`,
		`broker "1" message.max.bytes=3000000`, `broker "1" log.retention.ms=500000000`, `group_config "swap-new-group" consumer.session`, `client_metrics "swap-metrics" interval.ms`,
		`last batch again is at \d+, error <nil>`, `an epoch before it: INVALID_PRODUCER_EPOCH`, `a gap: OUT_OF_ORDER`,
		`quota.*"user"`, `quota.*"ip"`, `user .*"alice".*Iterations.*Iterations`, `ACLs: .*audit-: User:\*`, `transaction described.*Ongoing.*swap-open`,
	} {
		if !regexp.MustCompile("(?i)" + want).MatchString(text.String()) {
			missing = append(missing, fmt.Errorf("nothing shows %s", want))
		}
	}
	return errors.Join(missing...)
}

// killed tells whether a turn begins with SIGKILL: each broker is stopped cleanly and killed.
func killed(turn int) bool { return turn == 2 || turn == 3 || turn == 5 }

// name says who has the data directory, and how it came there.
func (s *swap) name(to *target, turn int) string {
	from, how := s.kafka, "stopped"
	if to == s.kafka {
		from = s.rotpeter
	}
	if killed(turn) {
		how = "killed"
	}
	return fmt.Sprintf("%d %s, %s %s", turn+1, to.name, from.name, how)
}

// turn ends one broker, starts the other on the same directory, compares, and has it write. An
// error says that the suite cannot go on; what differs is noted.
func (s *swap) turn(ctx context.Context, from, to *target, turn int) error {
	who := s.name(to, turn)
	before, err := s.view(ctx)
	if err != nil {
		return fmt.Errorf("view before: %w", err)
	}
	s.strays(ctx, who+", before")
	settleBusy, err := s.leave(ctx, from, who, killed(turn))
	if err != nil {
		return err
	}
	began := time.Now()
	s.logs[to].take()
	if err := to.Start(); err != nil {
		return err
	}
	if err := s.started(ctx, to); err != nil {
		return err
	}
	s.b.report.note("swap", who, "starts", time.Since(began), "", nil)
	after, err := s.view(ctx)
	if err != nil {
		return fmt.Errorf("view after: %w", err)
	}
	s.compare(who, before, after)
	settleBusy()
	if to == s.kafka {
		s.complained(who, s.logs[to].take())
		if err := s.backWithKafka(ctx, who, turn); err != nil {
			return err
		}
	} else {
		s.note(who, "refuses what it does not serve", func() error { return s.refusals(ctx) })
		s.note(who, "a group of the new protocol reads on from its commits", func() error { return s.readOn(ctx) })
	}
	s.note(who, "writes", func() error {
		err = s.write(ctx, turn, to.name)
		return err
	})
	if err == nil && to == s.kafka {
		s.onlyKafka, err = s.kafkaView(ctx)
	}
	return err
}

// leave ends a broker, if it is to be killed while a client produces, and looks at what Rotpeter
// leaves. The answer waits for that client, once the next broker serves.
func (s *swap) leave(ctx context.Context, from *target, who string, kill bool) (settleBusy func(), err error) {
	settleBusy = func() {}
	if !kill {
		err = from.Stop()
	} else {
		finish := s.busy.begin(ctx)
		settleBusy = func() {
			s.note(who, "a client that produces through the kill has each record once", func() error {
				return errors.Join(finish(), s.checkBusy(ctx))
			})
		}
		time.Sleep(busyFor)
		err = from.Kill()
	}
	if err != nil {
		return settleBusy, err
	}
	s.note(who, "rotpeter check finds nothing wrong", func() error {
		out, err := exec.CommandContext(ctx, s.b.bin, "check", s.kafka.data).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	if from != s.rotpeter {
		return settleBusy, nil
	}
	s.complained(who+", before", s.logs[from].take())
	return settleBusy, s.dumpAll(ctx, who, !kill)
}

// note runs a check and notes how it went.
func (s *swap) note(who, check string, f func() error) {
	began := time.Now()
	err := f()
	s.b.report.note("swap", who, check, time.Since(began), "", err)
}

func (s *swap) checkBusy(ctx context.Context) error {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	return s.busy.check(ctx, ref)
}

// started waits until Kafka says that it has started: it answers before, while the session of a
// broker that was killed still counts, and then loses the lead of everything for a moment.
func (s *swap) started(ctx context.Context, t *target) error {
	if t != s.kafka {
		return nil
	}
	return eventuallyIn(ctx, startWithin, func() error {
		if s.logs[t].says("Kafka Server started") {
			return nil
		}
		return errors.New("it answers and does not say that it has started")
	})
}

// backWithKafka checks what Kafka alone can show, and ends what was open.
func (s *swap) backWithKafka(ctx context.Context, who string, turn int) error {
	now, err := s.kafkaView(ctx)
	if err != nil {
		return fmt.Errorf("what only Kafka shows: %w", err)
	}
	s.compare(who, s.onlyKafka, now)
	switch turn {
	case 1:
		s.note(who, "commits a transaction that was open meanwhile", func() error { return s.endOpen(ctx, 0, kgo.TryCommit) })
	case 2*swapRounds - 1:
		tools, err := s.toolsShow(ctx)
		if err != nil {
			return err
		}
		s.compare(who, s.tools, tools)
		s.note(who, "aborts a transaction that was open all the time", func() error { return s.endOpen(ctx, 1, kgo.TryAbort) })
		s.note(who, "a group of the new protocol reads on from its commits", func() error { return s.readOn(ctx) })
	}
	return nil
}
