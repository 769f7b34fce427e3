package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rotpeter/rotpeter/compat/checker"
)

const (
	// checkerRoundTime is how long a round is at most: then its topics go, and with them what is kept in memory of it.
	checkerRoundTime = 2 * time.Minute
	// checkerEvery is how often a history is judged while it grows.
	checkerEvery = 5 * time.Second
	// checkerWhole is how long a run must be to be a failure when a rule was applied to nothing.
	checkerWhole = time.Minute
	// checkerEnd bounds what comes when the time is over: the ends of clients, and the final read.
	checkerEnd = 3 * time.Minute
)

// checkerSettings make segments roll, compaction run, and transactions that are left alone end.
func checkerSettings() []string {
	return []string{"offsets.topic.num.partitions=4", "transaction.state.log.num.partitions=4", "offsets.topic.segment.bytes=1048576",
		"transaction.state.log.segment.bytes=1048576", "transaction.abort.timed.out.transaction.cleanup.interval.ms=500",
		"log.cleaner.backoff.ms=300", "log.cleaner.min.cleanable.ratio=0.01", "log.initial.task.delay.ms=100",
		"log.retention.check.interval.ms=1000", "group.consumer.min.session.timeout.ms=6000", "group.consumer.session.timeout.ms=6000",
		"group.consumer.min.heartbeat.interval.ms=1000", "group.consumer.heartbeat.interval.ms=1000"}
}

// checkerChecks runs the workload checker: clients that write and read while their broker is killed, paused and
// restarted, and rules over all that they saw (package checker). It runs only when it is asked for.
func (b *bench) checkerChecks(ctx context.Context) error {
	if !slices.Contains(b.suites, "checker") {
		return nil
	}
	if b.replay != "" {
		return b.checkerReplay()
	}
	python, err := b.cache.python()
	if err != nil {
		b.report.add(result{suite: "checker", client: "librdkafka", check: "takes part", outcome: notRun, reason: err.Error()})
		python = ""
	}
	t, err := b.newTarget("checker", checkerSettings()...)
	if err != nil {
		return err
	}
	if err := t.Start(); err != nil {
		return err
	}
	defer func() {
		if t.cmd != nil {
			t.Kill()
		}
	}()
	fmt.Printf("checker: seed %d, %v against %s\n", b.seed, b.duration, t.name)
	began, all, ids := time.Now(), newCheckerCounts(), &checker.ProducerIDs{}
	for number := 0; number == 0 || time.Since(began) < b.duration-checkerRoundTime/4; number++ {
		long := min(checkerRoundTime, b.duration-time.Since(began))
		counts, err := b.checkerRound(ctx, t, number, long, python, ids)
		all.add(counts)
		if err != nil {
			return err
		}
		if ctx.Err() != nil || len(all.found) > 0 && b.first {
			break
		}
	}
	all.took = time.Since(began)
	all.print(b.report.out)
	b.judgeChecker(t, all)
	return t.Stop()
}

// checkerRound is one round, from its new topics to their deletion.
func (b *bench) checkerRound(ctx context.Context, t *target, number int, long time.Duration, python string, ids *checker.ProducerIDs) (checkerCounts, error) {
	r, err := b.newCheckerRound(t, number, ids)
	if err != nil {
		return checkerCounts{}, err
	}
	ref, err := newReference(t.bootstrap)
	if err != nil {
		return checkerCounts{}, err
	}
	defer ref.close()
	if err := r.create(ctx, ref); err != nil {
		return checkerCounts{}, err
	}
	err = r.work(ctx, long, python)
	if err == nil && !(b.first && len(r.h.Violations()) > 0) {
		err = r.final(ctx, ref)
	}
	if err == nil {
		err = r.err
	}
	if keepErr := r.keep(); err == nil {
		err = keepErr
	}
	if err == nil && len(r.h.Violations()) == 0 {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		resp, deleteErr := ref.admin.DeleteTopics(ctx, r.name, r.keysTopic(), r.trimmedTopic())
		if err = errors.Join(deleteErr, resp.Error()); err == nil && !b.keep {
			err = os.Remove(r.path)
		}
	}
	return r.kept, err
}

// create makes the topics of a round, with segments that are as small as may be.
func (r *checkerRound) create(ctx context.Context, ref *reference) error {
	text := func(s string) *string { return &s }
	configs := map[string]*string{"internal.segment.bytes": text("200000"), "max.message.bytes": text(fmt.Sprint(checkerMaxMessage))}
	resp, err := ref.admin.CreateTopic(ctx, checkerPartitions, 1, configs, r.name)
	if err = errors.Join(err, resp.Err); err != nil {
		return err
	}
	configs = map[string]*string{"internal.segment.bytes": text("30000"), "cleanup.policy": text("compact"), "delete.retention.ms": text("1000")}
	resp, err = ref.admin.CreateTopic(ctx, checkerKeyPartitions, 1, configs, r.keysTopic())
	if err = errors.Join(err, resp.Err); err != nil {
		return err
	}
	resp, err = ref.admin.CreateTopic(ctx, 1, 1, map[string]*string{"internal.segment.bytes": text("30000")}, r.trimmedTopic())
	return errors.Join(err, resp.Err)
}

// work runs the clients and the faults for a time.
func (r *checkerRound) work(ctx context.Context, long time.Duration, python string) error {
	all, cancel := context.WithCancel(ctx) // ends with the first error, too
	defer cancel()
	working, stop := context.WithTimeout(all, long)
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
				cancel()
			}
		})
	}
	for _, name := range []string{"franz-plain-1", "franz-plain-2"} {
		run(func() error { r.plain(working, name); return nil })
	}
	for _, name := range []string{"franz-txn-1", "franz-txn-2"} {
		run(func() error { r.transactional(working, name); return nil })
	}
	for name, flags := range map[string]string{"audit": "control", "audit-committed": "committed control", "franz-reads": "", "franz-reads-committed": "committed"} {
		c := r.consumer(name, flags)
		run(func() error { return r.assigned(working, c) })
	}
	for _, protocol := range []string{"classic", "consumer"} {
		run(func() error { return r.member(working, "franz-"+protocol, r.group(protocol), protocol) })
	}
	groups := []string{r.group("classic"), r.group("consumer"), "by-franz-txn-1", "by-franz-txn-2", "by-rdkafka-txn"}
	run(func() error { return r.fetchOffsets(working, groups) })
	run(func() error { return r.newProducerIDs(working) })
	run(func() error { return r.marks(working) })
	run(func() error { return r.keys(working) })
	run(func() error { return r.trims(working) })
	for i, p := range checkerProcesses() {
		if p.group = r.group(p.group); python == "" {
			continue
		}
		run(func() error { return r.process(working, python, i, p) })
	}
	run(func() error {
		return r.faults(working, checkerPlan(r.seed, 1+int(checkerRoundTime/checkerQuarter)))
	})
	run(func() error {
		for pause(working, checkerEvery); working.Err() == nil; pause(working, checkerEvery) {
			if found := r.check("check"); len(found) > 0 && r.b.first {
				fmt.Fprintf(r.b.report.out, "checker: %q is broken, found after %.0fs\n", found[0].Rule, time.Since(r.began).Seconds())
				stop()
			}
		}
		return nil
	})
	wg.Wait()
	return errors.Join(errs...)
}

// group is the name of a group of this round.
func (r *checkerRound) group(name string) string { return r.name + "-" + name }

// final reads everything again from the beginning, when all is over, and judges the rest.
func (r *checkerRound) final(ctx context.Context, ref *reference) error {
	ctx, cancel := context.WithTimeout(ctx, checkerEnd)
	defer cancel()
	r.note("the end")
	ends, err := r.settle(ctx)
	if err != nil {
		return err
	}
	for _, c := range []*checkerConsumer{r.consumer("final", "control final"), r.consumer("final-committed", "control final committed")} {
		if err := c.readTo(ctx, ends); err != nil {
			r.note("%v", err) // what is missing breaks a rule
		}
	}
	groups := []string{r.group("classic"), r.group("consumer"), "by-franz-txn-1", "by-franz-txn-2", "by-rdkafka-txn"}
	short, cancelShort := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancelShort()
	if err := r.fetchOffsets(short, groups); err != nil {
		return err
	}
	reading, cancelReading := context.WithTimeout(ctx, 2*checkerStall)
	defer cancelReading()
	if err := r.keptKeys(reading, ref); err != nil {
		r.note("read the keys: %v", err)
		if reading.Err() == nil {
			return fmt.Errorf("read the keys: %w", err)
		}
	}
	r.check("finish")
	return nil
}

// keep takes what is to be kept of the round, and writes down what broke a rule.
func (r *checkerRound) keep() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(r.text.Flush(), r.file.Close()); err != nil {
		return err
	}
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.kept.heapMegabytes = float64(mem.HeapAlloc) / 1e6
	r.kept.facts, r.kept.found = r.h.Facts(), r.h.Violations()
	r.kept.removed, r.kept.writeCycles = r.h.Removed(), r.h.WriteCycles()
	return writeSlices(r.h, r.path, r.b.report.out)
}

// writeSlices prints violations, and writes the part of the history that each is about beside it.
func writeSlices(h *checker.History, path string, out interface{ Write([]byte) (int, error) }) error {
	const most = 10
	for i, v := range h.Violations() {
		if i == most {
			fmt.Fprintf(out, "checker: %d more violations\n", len(h.Violations())-most)
			break
		}
		text, err := os.Open(path)
		if err != nil {
			return err
		}
		var slice bytes.Buffer
		err = errors.Join(h.Slice(v, text, &slice), text.Close())
		name := fmt.Sprintf("%s-violation-%d", path, i+1)
		if err = errors.Join(err, os.WriteFile(name, slice.Bytes(), 0o644)); err != nil {
			return err
		}
		fmt.Fprintf(out, "checker: VIOLATION %v\n  history: %s\n", v, name)
	}
	return nil
}

// checkerReplay judges a history that was kept.
func (b *bench) checkerReplay() error {
	text, err := os.ReadFile(b.replay)
	if err != nil {
		return err
	}
	h := checker.New(checkerPartitions+1, &checker.ProducerIDs{})
	for line := range strings.Lines(string(text)) {
		if err := h.Apply(strings.TrimSuffix(line, "\n")); err != nil {
			return err
		}
	}
	counts := newCheckerCounts()
	counts.facts, counts.found, counts.removed, counts.writeCycles = h.Facts(), h.Violations(), h.Removed(), h.WriteCycles()
	copied := filepath.Join(b.work, filepath.Base(b.replay))
	if err := os.WriteFile(copied, text, 0o644); err != nil {
		return err
	}
	err = writeSlices(h, copied, b.report.out)
	counts.print(b.report.out)
	b.judgeChecker(&target{name: "history"}, counts)
	return err
}
