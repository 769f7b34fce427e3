package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	speedTopic      = "group-speed"
	speedPartitions = 100
)

// groupSpeed measures how long the members of a new group take from the first
// join to the first record, with the broker's settings as they are shipped. The
// broker under test is held against Apache Kafka in the same run, where it can be had.
func (b *bench) groupSpeed(ctx context.Context, clients []groupClient) error {
	var franz groupClient
	for _, c := range clients {
		if c.name == "franz-go" {
			franz = c
		}
	}
	if franz.missing != "" || !b.wants("groups", "franz-go", "first record") {
		return nil
	}
	// What compat sets for all other suites is taken back.
	shipped := "group.initial.rebalance.delay.ms=3000"
	tested, err := b.newTarget("group-speed", shipped)
	if err != nil {
		return err
	}
	targets := []*target{tested}
	if b.classes != nil && b.target != "kafka" {
		targets = append(targets, newKafka(b.classes.javaTools, filepath.Join(b.work, "group-speed"), b.log, []string{shipped}))
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	refs := make([]*reference, len(targets))
	for i, t := range targets {
		if err := t.Start(); err != nil {
			return err
		}
		defer t.Stop()
		if refs[i], err = newReference(t.bootstrap); err != nil {
			return err
		}
		defer refs[i].close()
		if err := speedRecords(ctx, writing, refs[i]); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	for _, protocol := range []string{"classic", "consumer"} {
		for _, size := range []int{1, 10, 100} {
			began := time.Now()
			took, errs := make([]firstRecords, len(targets)), make([]error, len(targets))
			var wg sync.WaitGroup
			for i, t := range targets {
				wg.Go(func() {
					if took[i], errs[i] = b.firstRecords(ctx, franz, refs[i], protocol, size); errs[i] != nil {
						errs[i] = fmt.Errorf("%s: %w", t.name, errs[i])
					}
				})
				if size == 100 { // not side by side: that takes CPU time
					wg.Wait()
				}
			}
			wg.Wait()
			b.report.note("groups", fmt.Sprintf("%s group of %d", protocol, size), "join to first record", time.Since(began), compareFirst(targets, took), errors.Join(errs...))
		}
	}
	return nil
}

// firstRecords is when the members of a group got their first records, in order.
type firstRecords []time.Duration

// told are the first member, the one in the middle and the last one.
func (f firstRecords) told() [3]time.Duration {
	return [3]time.Duration{f[0], f[len(f)/2], f[len(f)-1]}
}

// compareFirst says how long it took. The times are sums of what members and brokers wait for: heartbeats, the initial
// delay of a rebalance.
func compareFirst(targets []*target, took []firstRecords) string {
	var parts []string
	var told [][3]time.Duration
	for i, t := range targets {
		if len(took[i]) == 0 {
			return ""
		}
		f := took[i].told()
		told = append(told, f)
		parts = append(parts, fmt.Sprintf("%s: first %.2fs, middle %.2fs, last %.2fs", t.name, f[0].Seconds(), f[1].Seconds(), f[2].Seconds()))
	}
	if len(told) == 2 {
		var ratios []string
		for i := range told[0] {
			ratios = append(ratios, fmt.Sprintf("%.2f", told[0][i].Seconds()/told[1][i].Seconds()))
		}
		parts = append(parts, "ratios "+strings.Join(ratios, ", "))
	}
	return strings.Join(parts, "; ")
}

// speedRecords makes the topic and writes a record to each partition again and again until writing ends.
func speedRecords(ctx, writing context.Context, ref *reference) error {
	if err := ref.create(ctx, speedTopic, speedPartitions); err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(ref.bootstrap), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	go func() {
		defer cl.Close()
		tick := time.NewTicker(groupTick)
		defer tick.Stop()
		for writing.Err() == nil {
			for p := range int32(speedPartitions) {
				cl.Produce(writing, &kgo.Record{Topic: speedTopic, Partition: p, Key: []byte("k"), Value: []byte("v")}, nil)
			}
			select {
			case <-tick.C:
			case <-writing.Done():
			}
		}
	}()
	// The first group of a broker waits for the topic of offsets to be created.
	member, err := ref.member(ctx, speedTopic, "group-speed-warm", 1)
	if err == nil {
		member.Close()
	}
	return err
}

// firstRecords has all members of a group join at once in one process.
func (b *bench) firstRecords(ctx context.Context, franz groupClient, ref *reference, protocol string, size int) (f firstRecords, err error) {
	p, err := franz.start(b.log, ref.bootstrap)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	events := make(chan groupEvent, 10*speedPartitions)
	sink := func(e groupEvent) { events <- e }
	// The answer that a stranger cannot leave says that the process is up.
	if err := p.send(groupCommand{Op: "close", Member: "nobody"}, sink); err != nil {
		return f, err
	}
	<-events
	ctx, cancel := context.WithTimeout(ctx, groupWithin)
	defer cancel()
	group := fmt.Sprintf("group-speed-%s-%d", protocol, size)
	began := time.Now()
	for i := range size {
		c := groupCommand{Op: "join", Member: fmt.Sprintf("m%d", i), Group: group, Topic: speedTopic, Protocol: protocol, Quiet: true}
		if err := p.send(c, sink); err != nil {
			return f, err
		}
	}
	for len(f) < size {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d members got a record within %v", len(f), size, groupWithin)
		case e := <-events:
			if e.Event == "record" {
				f = append(f, time.Since(began))
			}
		}
	}
	return f, ref.groupType(ctx, group, protocol)
}
