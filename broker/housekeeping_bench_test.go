package broker

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/internal/vfs"
)

const (
	housekeepingRate   = 500 // messages a second, sent when it is their time, whatever became of those before
	housekeepingPhase  = 4 * time.Second
	housekeepingRounds = 5
)

// BenchmarkBesideHousekeeping measures what compaction and retention cost those who
// produce and fetch meanwhile: the 99th percentile of both, with and without, and the ratio.
// The same data is written in both cases, some of it to a topic that is compacted as
// soon as anything in it is dirty. Phases alternate; the figures are medians of theirs.
func BenchmarkBesideHousekeeping(b *testing.B) {
	h := newHousekeeping(b)
	for b.Loop() {
		var with, without [2][]time.Duration
		for range housekeepingRounds {
			for _, on := range []bool{false, true} {
				produced, fetched := h.phase(b, on)
				into := &without
				if on {
					into = &with
				}
				into[0], into[1] = append(into[0], produced), append(into[1], fetched)
			}
		}
		for i, what := range []string{"produce", "fetch"} {
			off, on := median(without[i]), median(with[i])
			b.ReportMetric(float64(off.Microseconds()), what+"-p99-us")
			b.ReportMetric(float64(on.Microseconds()), what+"-p99-us-beside")
			b.ReportMetric(float64(on)/float64(off), what+"-p99-ratio")
		}
	}
	stats := h.b.dirs.CleanerStats()
	b.ReportMetric(float64(stats.Cleaned), "compactions")
	if stats.Cleaned == 0 {
		b.Error("nothing was compacted")
	}
}

type housekeeping struct {
	b    *Broker
	seed string
	adm  *kadm.Client
}

func newHousekeeping(b *testing.B) *housekeeping {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	source, err := config.ParseOverrides("--set", []string{
		"log.dirs=" + dir, "listeners=PLAINTEXT://" + listener.Addr().String(), "log.retention.check.interval.ms=100", "log.initial.task.delay.ms=0",
	})
	if err != nil {
		b.Fatal(err)
	}
	c, err := config.Load(source)
	if err != nil {
		b.Fatal(err)
	}
	var ids uint64
	var mu sync.Mutex
	broker, err := Start(b.Context(), Options{
		Config: c, FS: vfs.OS(), Dir: dir,
		Listeners: []Listener{{Name: "PLAINTEXT", Net: listener, Host: "127.0.0.1", Port: int32(listener.Addr().(*net.TCPAddr).Port)}},
		NewID: func() (id [16]byte) {
			mu.Lock()
			defer mu.Unlock()
			ids++
			id[0] = 0x10
			binary.BigEndian.PutUint64(id[8:], ids)
			return id
		},
		Random: rand.Int32,
	})
	if err != nil {
		b.Fatal(err)
	}
	h := &housekeeping{b: broker, seed: listener.Addr().String()}
	cl := h.client(b)
	h.adm = kadm.NewClient(cl)
	b.Cleanup(func() {
		if err := broker.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	small := "1048576"
	compact, ratio := "compact", "0.01"
	for name, configs := range map[string]map[string]*string{
		"hot":     {"segment.bytes": &small},
		"compact": {"segment.bytes": &small, "cleanup.policy": &compact, "min.cleanable.dirty.ratio": &ratio},
	} {
		if resp, err := h.adm.CreateTopic(b.Context(), 1, 1, configs, name); err != nil || resp.Err != nil {
			b.Fatal(err, resp.Err)
		}
	}
	return h
}

func (h *housekeeping) client(b *testing.B, opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(h.seed), kgo.DisableClientMetrics()}, opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cl.Close)
	return cl
}

// phase runs the load for a while and returns the 99th percentiles of acknowledgements
// and of arrivals at a consumer, both from the time that a message was to be sent.
func (h *housekeeping) phase(b *testing.B, on bool) (produced, fetched time.Duration) {
	cleaner := h.b.cleanerConfig(h.b.conf.Load())
	cleaner.Enabled, cleaner.Backoff = on, 20*time.Millisecond
	h.b.dirs.SetCleaner(cleaner)
	keep := "-1"
	if on {
		keep = "4000000"
	}
	if _, err := h.adm.AlterTopicConfigs(b.Context(), []kadm.AlterConfig{{Name: "retention.bytes", Value: &keep}}, "hot"); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { h.dirty(ctx, b) })
	produced, fetched = h.load(ctx, b)
	cancel()
	wg.Wait()
	return produced, fetched
}

// dirty writes 4 MB a second to the compacted topic.
func (h *housekeeping) dirty(ctx context.Context, b *testing.B) {
	cl := h.client(b, kgo.DefaultProduceTopic("compact"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer cl.Close()
	value := strings.Repeat("x", 400)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		for range 100 {
			cl.Produce(ctx, &kgo.Record{Key: fmt.Appendf(nil, "%d", rand.IntN(20000)), Value: []byte(value)}, nil)
		}
	}
}

func (h *housekeeping) load(ctx context.Context, b *testing.B) (produced, fetched time.Duration) {
	n := int(housekeepingPhase.Seconds() * housekeepingRate)
	consumer := h.client(b, kgo.ConsumeTopics("hot"), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(time.Second))
	defer consumer.Close()
	producer := h.client(b, kgo.DefaultProduceTopic("hot"), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer producer.Close()
	var mu sync.Mutex
	var acks, arrivals []time.Duration
	begin := func(i int) *kgo.Record {
		r := &kgo.Record{Value: make([]byte, 1024)}
		binary.BigEndian.PutUint64(r.Value, uint64(i))
		return r
	}
	// One after the other until the consumer has joined in.
	ready := make(chan struct{})
	var wg sync.WaitGroup
	start := time.Now().Add(time.Hour)
	wg.Go(func() {
		first := true
		for ctx.Err() == nil {
			fetches := consumer.PollFetches(ctx)
			now := time.Now()
			last := false
			fetches.EachRecord(func(r *kgo.Record) {
				i := binary.BigEndian.Uint64(r.Value)
				mu.Lock()
				defer mu.Unlock()
				if i < uint64(n) {
					arrivals = append(arrivals, now.Sub(start.Add(time.Duration(i)*time.Second/housekeepingRate)))
					last = last || len(arrivals) == n
				}
			})
			if first && !fetches.Empty() {
				first = false
				close(ready)
			}
			if last {
				return
			}
		}
	})
	for joined := false; !joined; {
		if err := producer.ProduceSync(ctx, begin(n)).FirstErr(); err != nil {
			b.Fatal(err)
		}
		select {
		case <-ready:
			joined = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	mu.Lock()
	start = time.Now().Add(500 * time.Millisecond)
	mu.Unlock()
	for i := range n {
		due := start.Add(time.Duration(i) * time.Second / housekeepingRate)
		time.Sleep(time.Until(due))
		producer.Produce(ctx, begin(i), func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil && ctx.Err() == nil {
				b.Error(err)
			}
			acks = append(acks, time.Since(due))
		})
	}
	if err := producer.Flush(ctx); err != nil {
		b.Error(err)
	}
	wg.Wait()
	return p99(acks), p99(arrivals)
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
