package null

import (
	"fmt"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What franz-go writes it reads back, in order, on all partitions.
func TestProduceAndFetch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dir: t.TempDir(), Partitions: 3}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	cl, err := kgo.NewClient(kgo.SeedBrokers(l.Addr().String()), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("t"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	const n = 5000
	for i := range n {
		cl.Produce(t.Context(), &kgo.Record{Topic: "t", Key: fmt.Append(nil, i%50), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for got := 0; got < n; {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			got++
			var i int
			if _, err := fmt.Sscan(string(r.Value), &i); err != nil || i < next[string(r.Key)] {
				t.Errorf("key %s: %s after %d", r.Key, r.Value, next[string(r.Key)])
			}
			next[string(r.Key)] = i + 1
		})
	}
	cl.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
