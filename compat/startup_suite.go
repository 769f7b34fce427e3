package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// startups is how many starts are measured; their median is told.
const startups = 5

// startupGoals are the goals of the README; a measure above slack times its
// goal is a failure: a machine that is busy with something else is slower.
const (
	goalStart     = 50 * time.Millisecond
	goalMegabytes = 30.0
	goalBinary    = 25.0
	slackStart    = 20
	slackMemory   = 2
)

// startup measures from exec to the first acknowledged record, the memory of
// the idle broker, and the size of the binary.
func (b *bench) startup(ctx context.Context) error {
	var times []time.Duration
	var idle []float64
	began := time.Now()
	runs := startups
	if b.target == "kafka" {
		runs = 1
	}
	for i := range runs {
		t, err := b.newTarget(fmt.Sprintf("startup-%d", i))
		if err != nil {
			return err
		}
		took, rss, err := measureStart(ctx, t)
		if t.cmd != nil {
			t.Kill()
		}
		if err != nil {
			return err
		}
		times, idle = append(times, took), append(idle, rss)
	}
	slices.Sort(times)
	slices.Sort(idle)
	start, rss := times[len(times)/2], idle[len(idle)/2]
	over := func(is bool, what string) error {
		if is && b.target == "rotpeter" {
			return fmt.Errorf("far above the goal: %s", what)
		}
		return nil
	}
	measure := fmt.Sprintf("%.1f ms, median of %d (goal %v)", start.Seconds()*1000, len(times), goalStart)
	b.report.note("startup", b.target, "exec to first acknowledged record", time.Since(began), measure, over(start > slackStart*goalStart, measure))
	measure = fmt.Sprintf("%.1f MB resident (goal %.0f)", rss, goalMegabytes)
	b.report.note("startup", b.target, "idle memory", 0, measure, over(rss > slackMemory*goalMegabytes, measure))
	if b.target != "rotpeter" {
		return nil
	}
	info, err := os.Stat(b.bin)
	if err != nil {
		return err
	}
	size := float64(info.Size()) / 1e6
	measure = fmt.Sprintf("%.1f MB (goal %.0f)", size, goalBinary)
	b.report.note("startup", b.target, "size of the binary", 0, measure, over(size > goalBinary, measure))
	return nil
}

// measureStart starts the broker in a new data directory, creates a topic and
// writes a record with acks=all; then it lets the broker be idle for a second.
func measureStart(ctx context.Context, t *target) (time.Duration, float64, error) {
	began := time.Now()
	if err := t.Start(); err != nil {
		return 0, 0, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(t.bootstrap), kgo.DefaultProduceTopic("first"),
		kgo.MetadataMinAge(10*time.Millisecond), kgo.ProducerLinger(0), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return 0, 0, err
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, kgo.StringRecord("hello")).FirstErr(); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	cl.Close()
	time.Sleep(time.Second)
	return took, t.megabytes("VmRSS"), nil
}
