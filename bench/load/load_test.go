package load

import (
	"net"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/bench/null"
)

// Against the null broker each kind of load counts what it sent.
func TestLoads(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go (&null.Server{Dir: t.TempDir(), Partitions: 2}).Serve(l)
	base := Load{Addr: l.Addr().String(), Topic: "t", Partitions: 2, Record: 100, Warm: 50 * time.Millisecond, Measure: 300 * time.Millisecond}
	r, err := base.Rate(t.Context(), 1000)
	if err != nil || r.Records != 300 || r.Latency.N() != 300 || r.Bytes != 30000 {
		t.Errorf("at a rate: %d records, %d latencies, %v", r.Records, r.Latency.N(), err)
	}
	if r, err = base.Produce(t.Context()); err != nil || r.Records < 1000 {
		t.Errorf("produce: %d records, %v", r.Records, err)
	}
	slow := base
	for r = new(Result); r.Records == 0; slow.Measure *= 2 { // a busy machine may not come to it
		if r, err = slow.Consume(t.Context()); err != nil || r.Bytes != r.Records*100 {
			t.Fatalf("consume: %d records, %v", r.Records, err)
		}
	}
	if r, err = base.Delivered(t.Context(), 500, 3); err != nil || r.Records != 3*150 || r.Latency.N() != r.Records {
		t.Errorf("delivered: %d records of %d, %v", r.Records, 3*150, err)
	}
}
