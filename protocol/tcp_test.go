package protocol

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func tcpRig(t *testing.T, o Options) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no TCP on loopback: %v", err)
	}
	return newRig(t, o, l)
}

// fileOf writes n bytes that depend on a seed to a file.
func fileOf(t testing.TB, n int) (*os.File, []byte) {
	t.Helper()
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(b)
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, b
}

func fetchedRecords(t *testing.T, body []byte) [][]byte {
	t.Helper()
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 12
	if err := resp.ReadFrom(body[1:]); err != nil { // behind the header's tags
		t.Fatal(err)
	}
	var all [][]byte
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			all = append(all, p.RecordBatches)
		}
	}
	return all
}

// Bodies of every size arrive as they are in the file, whether they are copied or
// sent from it, with fast and slow readers.
func TestSendfile(t *testing.T) {
	r := tcpRig(t, Options{})
	file, content := fileOf(t, 24<<20)
	sizes := [][]int{
		{1}, {sendfileBytes - 1}, {sendfileBytes}, {sendfileBytes + 1}, {64 << 10}, {pieceBytes}, {pieceBytes + 1}, {20 << 20},
		{100, 100_000, 0, 17, 3 << 20, 16 << 10, 1},
		slices.Repeat([]int{15_000}, 200), // more short ones than an output holds
	}
	want := make([][]byte, 0, 200)
	released := make(chan struct{}, 1)
	r.fetch = func(c *Call, _ *FetchRequest) Answer {
		resp := &FetchResponse{Version: c.Version, Topics: []FetchResponseTopic{{Name: "t"}}, Release: func() { released <- struct{}{} }}
		off := 0
		want = want[:0]
		for i, n := range sizes[c.CorrelationID] {
			half := n / 2 // two runs each; every third partition has one of data
			runs := []Run{{File: file, Off: int64(off), Len: half}, {File: file, Off: int64(off + half), Len: n - half}}
			if i%3 == 2 {
				runs[0] = Run{Data: content[off : off+half]}
			}
			want = append(want, content[off:off+n])
			resp.Topics[0].Partitions = append(resp.Topics[0].Partitions, FetchResponsePartition{Index: int32(i),
				DivergingEpoch: EpochEndOffset{Epoch: -1}, CurrentLeader: LeaderIDEpoch{ID: 1, Epoch: 2}, Records: Records{Runs: runs, Bytes: n}})
			off += n
		}
		return Now(resp)
	}
	for _, slow := range []bool{false, true} {
		p := r.dial()
		if slow {
			p.Conn = &dribble{Conn: p.Conn}
		}
		for id := range sizes {
			p.send(fetchRequest(int32(id)), metadataRequest(99))
			got, body := p.receive()
			records := fetchedRecords(t, body)
			if got != int32(id) || len(records) != len(want) {
				t.Fatalf("answer %d with %d partitions, want %d with %d", got, len(records), id, len(want))
			}
			for i := range records {
				if !bytes.Equal(records[i], want[i]) {
					t.Fatalf("sizes %d, partition %d: %d bytes differ from the %d of the file", id, i, len(records[i]), len(want[i]))
				}
			}
			<-released
			p.expect(99)
		}
	}
	if at, err := file.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		t.Errorf("the file's own position is %d (%v)", at, err)
	}
}

// dribble reads a little at a time.
type dribble struct{ net.Conn }

func (d *dribble) Read(b []byte) (int, error) { return d.Conn.Read(b[:min(len(b), 7001)]) }

func TestFileShorterThanItsRun(t *testing.T) {
	r := tcpRig(t, Options{})
	file, _ := fileOf(t, 100_000)
	released := make(chan struct{}, 1)
	r.fetch = func(c *Call, _ *FetchRequest) Answer {
		return Now(fetched(c.Version, Run{File: file, Off: 50_000, Len: 60_000}, func() { released <- struct{}{} }))
	}
	p := r.dial()
	p.send(fetchRequest(1))
	n, _ := io.Copy(io.Discard, p)
	if n >= 60_000 {
		t.Errorf("%d bytes came", n)
	}
	<-released
	r.waitClosed(ReasonShortFile)
}

// waitClosed waits until a connection was closed for the reason.
func (r *rig) waitClosed(reason Reason) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); r.s.Stats().Closed[reason] == 0; {
		if time.Now().After(deadline) {
			r.t.Fatalf("closed: %v, want %s", r.s.Stats().Closed, reason)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFetchNeverReadOverTCP(t *testing.T) {
	r := tcpRig(t, Options{Limits: Limits{TransferTime: 50 * time.Millisecond, MinBytesPerSecond: 1 << 30}})
	file, _ := fileOf(t, 50<<20)
	released := make(chan struct{}, 1)
	r.fetch = func(c *Call, _ *FetchRequest) Answer {
		return Now(fetched(c.Version, Run{File: file, Len: 50 << 20}, func() { released <- struct{}{} }))
	}
	p := r.dial()
	p.send(fetchRequest(1))
	<-released
	r.waitClosed(ReasonSlowReader)
	if used := r.s.Stats().CreditUsed; used != 0 {
		t.Errorf("%d bytes of credit are held", used)
	}
}

func TestLargeProduceOverTCP(t *testing.T) {
	r := tcpRig(t, Options{})
	var got []byte
	r.produce = func(c *Call, req *ProduceRequest) Answer {
		got = bytes.Clone(req.Topics[0].Partitions[0].Records)
		return Now(&ProduceResponse{Version: c.Version})
	}
	random := rand.NewChaCha8([32]byte{2})
	p := r.dial()
	for id, n := range []int{0, 1, 4000, 65_400, 65_536, 70_000, 1 << 20, 900_000, 5 << 20, 40 << 20, 100} {
		req := kmsg.NewPtrProduceRequest()
		req.Version = 12
		topic, part := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
		topic.Topic, part.Records = "t", make([]byte, n)
		random.Read(part.Records)
		topic.Partitions = append(topic.Partitions, part)
		req.Topics = append(req.Topics, topic)
		p.send(frameOf(int32(id), req))
		p.expect(int32(id))
		if !bytes.Equal(got, part.Records) {
			t.Fatalf("%d bytes arrived as %d others", n, len(got))
		}
	}
}

// Over TCP too, requests that arrive in any pieces are answered in order.
func TestManyPipelinedOverTCP(t *testing.T) {
	r := tcpRig(t, Options{})
	r.produce = func(c *Call, _ *ProduceRequest) Answer {
		resp := &ProduceResponse{Version: c.Version}
		ready := make(chan struct{})
		go close(ready)
		return LaterWhen(ready, func(context.Context) Response { <-ready; return resp })
	}
	const n = 3000
	p := r.dial()
	go func() {
		random := rand.New(rand.NewPCG(1, 1))
		var all []byte
		for id := range int32(n) {
			if random.IntN(10) == 0 {
				all = append(all, metadataRequest(id)...)
			} else {
				all = append(all, produceRequest(id, -1, random.IntN(3000))...)
			}
		}
		for len(all) > 0 {
			k := min(len(all), 1+random.IntN(100_000))
			if _, err := p.Write(all[:k]); err != nil {
				return
			}
			all = all[k:]
		}
	}()
	for id := range int32(n) {
		p.expect(id)
	}
}
