package raw

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/bench/null"
)

// Against the null broker: what was produced is fetched, each record once in a round.
func TestProduceAndFetch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &null.Server{Dir: t.TempDir(), Partitions: 3}
	go s.Serve(l)
	if err := create(t.Context(), l.Addr().String(), "t"); err != nil {
		t.Fatal(err)
	}
	began := 0
	load := Load{Addr: l.Addr().String(), Connections: 2, InFlight: 4, Measure: 100 * time.Millisecond, Window: func(begin bool) { began++ }}
	p, err := Produce{Load: load, Topic: "t", Partitions: 3, Batch: 2000, Record: 100, Acks: -1}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Requests == 0 || p.Records != p.Requests*3*18 || p.Bytes < p.Records*100 || p.Latency.N() != p.Requests || began != 2 {
		t.Errorf("%d requests, %d records, %d bytes, %d latencies; the window was told of %d times", p.Requests, p.Records, p.Bytes, p.Latency.N(), began)
	}
	load.InFlight = 1
	f, err := Fetch{Load: load, Topic: "t", Partitions: 3, PartitionBytes: 64 << 10, MaxBytes: 1 << 20}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Requests == 0 || f.Records < 10*f.Requests || f.Bytes < 100*f.Records {
		t.Errorf("%d fetches, %d records, %d bytes", f.Requests, f.Records, f.Bytes)
	}
}

// A refused partition ends the load.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go (&null.Server{Dir: t.TempDir(), Partitions: 1}).Serve(l)
	load := Load{Addr: l.Addr().String(), Connections: 1, InFlight: 1, Measure: time.Minute}
	if _, err := (Produce{Load: load, Topic: "none", Partitions: 1, Batch: 100, Record: 10, Acks: 1}).Run(t.Context()); err == nil {
		t.Error("no error for a topic that there is not")
	}
}

func create(ctx context.Context, addr, topic string) error {
	_, err := Ask(ctx, addr, CreateTopic(topic, 3))
	return err
}
