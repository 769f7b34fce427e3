package protocol

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
)

// benchServer serves Produce at once from pooled state, as a broker does with
// acks=1, over TCP on loopback.
func benchServer(b *testing.B, wait bool) net.Conn {
	b.Helper()
	type state struct {
		req  ProduceRequest
		resp ProduceResponse
	}
	pool := sync.Pool{New: func() any {
		return &state{resp: ProduceResponse{Topics: []ProduceResponseTopic{{Name: "t", Partitions: []ProduceResponsePartition{{CurrentLeader: LeaderIDEpoch{ID: -1}}}}}}}
	}}
	done := make(chan struct{})
	close(done)
	s, err := NewServer(Options{Log: slog.New(slog.DiscardHandler), Observe: func(Observation) {}, Rows: []Row{{
		Key: 0, Min: 3, Max: 13, FlexibleFrom: 9, Raw: true, Pipelined: true,
		Begin: func(_ context.Context, c *Call) Answer {
			st := pool.Get().(*state)
			defer pool.Put(st) // single-threaded here: encoded before it is used again
			if err := st.req.Decode(c.Version, c.Body); err != nil {
				return Hangup(err)
			}
			st.resp.Version = c.Version
			if wait {
				resp := &ProduceResponse{Version: c.Version, Topics: st.resp.Topics}
				return LaterWhen(done, func(context.Context) Response { return resp })
			}
			return Now(&st.resp)
		}}}})
	return dialServer(b, s, err)
}

// dialServer serves on loopback until the benchmark ends, and connects.
func dialServer(b *testing.B, s *Server, err error) net.Conn {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(l)
	b.Cleanup(func() { s.Shutdown(context.Background()) })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkProduce is one request of 1 KiB through a connection, the client's cost
// (a write and two reads a round) included.
func BenchmarkProduce(b *testing.B) {
	for _, wait := range []bool{false, true} {
		for _, depth := range []int{1, 32} {
			b.Run(fmt.Sprintf("later=%v/depth=%d", wait, depth), func(b *testing.B) {
				c := benchServer(b, wait)
				var round []byte
				for i := range depth {
					round = append(round, produceRequest(int32(i), 1, 1024)...)
				}
				in := bufio.NewReaderSize(c, 64<<10)
				b.ReportAllocs()
				b.SetBytes(1024)
				b.ResetTimer()
				for sent := 0; sent < b.N; sent += depth {
					if _, err := c.Write(round); err != nil {
						b.Fatal(err)
					}
					for range depth {
						head, err := in.Peek(4)
						if err != nil {
							b.Fatal(err)
						}
						if _, err := in.Discard(4 + int(binary.BigEndian.Uint32(head))); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

func BenchmarkDecodeProduce(b *testing.B) {
	for _, partitions := range []int{1, 100} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			body := manyPartitions(partitions).AppendTo(nil)
			var r ProduceRequest
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Decode(12, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeFetch(b *testing.B) {
	r := &FetchResponse{Version: 12, Topics: []FetchResponseTopic{{Name: "t"}}}
	for i := range 100 {
		r.Topics[0].Partitions = append(r.Topics[0].Partitions, FetchResponsePartition{Index: int32(i),
			DivergingEpoch: EpochEndOffset{Epoch: -1}, CurrentLeader: LeaderIDEpoch{ID: -1},
			Records: Records{Runs: []Run{{File: ram(nil), Len: 1 << 20}}}})
	}
	var o output
	b.ReportAllocs()
	for b.Loop() {
		o.buf, o.cuts, o.runBytes = o.buf[:0], o.cuts[:0], 0
		r.appendTo(&o)
	}
}

// BenchmarkFetch is one fetch of a file's bytes over TCP, the reading included.
func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{8 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			file, _ := fileOf(b, size)
			resp := fetched(12, Run{File: file, Len: size}, nil)
			s, err := NewServer(Options{Log: slog.New(slog.DiscardHandler), Rows: []Row{{
				Key: 1, Min: 4, Max: 18, FlexibleFrom: 12, Raw: true,
				Begin: func(context.Context, *Call) Answer { return Now(resp) },
			}}})
			c := dialServer(b, s, err)
			frame, body := fetchRequest(1), make([]byte, size+1000)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := c.Write(frame); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, body[:4]); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, body[:binary.BigEndian.Uint32(body)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
