// Package raw loads a broker with prebuilt Produce and Fetch frames over some
// connections with some requests in flight each. The client costs so little that
// what is compared is the broker. Produce is version 8 and Fetch version 11:
// every broker of the benchmarks knows them.
package raw

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rotpeter/rotpeter/bench/hist"
)

// maxResponse is the largest answer, in bytes.
const maxResponse = 256 << 20

// Result is what was answered within the measured time.
type Result struct {
	Requests int64
	Records  int64
	Bytes    int64 // of record batches
	Took     time.Duration
	Latency  hist.Histogram // from writing a request to having read its answer
}

func (r *Result) add(o *Result) {
	r.Requests += o.Requests
	r.Records += o.Records
	r.Bytes += o.Bytes
	r.Latency.Add(&o.Latency)
}

// Load says over how many connections, each with how many requests in flight.
type Load struct {
	Addr        string
	Connections int
	InFlight    int
	Warm        time.Duration // before the measured time
	Measure     time.Duration
	Window      func(begin bool) // if not nil: called when the measured time begins (true) and ends (false)
}

// worker is one connection's side of a load.
type worker interface {
	// frame is the next request, with its length in front; valid until the next call.
	frame() []byte
	// answer checks an answer (after its length), and tells its records and bytes.
	answer(b []byte) (records, bytes int64, err error)
}

// run drives a worker on each connection. Only what is answered within the measured time counts.
func (l Load) run(ctx context.Context, newWorker func(i int) (worker, error)) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now().Add(l.Warm)
	end := begin.Add(l.Measure)
	results, errs := make([]Result, l.Connections), make([]error, l.Connections)
	var wg sync.WaitGroup
	for i := range l.Connections {
		w, err := newWorker(i)
		if err != nil {
			return nil, err
		}
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr)
		if err != nil {
			return nil, err
		}
		defer nc.Close()
		wg.Go(func() {
			if errs[i] = l.connection(ctx, nc, w, begin, end, &results[i]); errs[i] != nil {
				cancel()
			}
		})
	}
	l.window(ctx, begin, end)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	total := &Result{Took: l.Measure}
	for i := range results {
		total.add(&results[i])
	}
	return total, nil
}

// window tells when the measured time begins and ends.
func (l Load) window(ctx context.Context, begin, end time.Time) {
	if l.Window == nil {
		return
	}
	for _, at := range []time.Time{begin, end} {
		select {
		case <-time.After(time.Until(at)):
			l.Window(at.Equal(begin))
		case <-ctx.Done():
			return
		}
	}
}

// connection keeps InFlight requests on their way until the end, and then reads the answers that are missing.
func (l Load) connection(ctx context.Context, nc net.Conn, w worker, begin, end time.Time, r *Result) error {
	in := bufio.NewReaderSize(nc, 64<<10)
	sent := make([]time.Time, 0, l.InFlight) // oldest first
	var buf []byte
	now := time.Now()
	for {
		for len(sent) < l.InFlight && now.Before(end) && ctx.Err() == nil {
			sent = append(sent, now)
			if _, err := nc.Write(w.frame()); err != nil {
				return err
			}
		}
		if len(sent) == 0 {
			return ctx.Err()
		}
		if err := nc.SetReadDeadline(now.Add(time.Minute)); err != nil {
			return err
		}
		var err error
		if buf, err = readFrame(in, buf); err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		records, bytes, err := w.answer(buf)
		if err != nil {
			return err
		}
		now = time.Now()
		if !now.Before(begin) && now.Before(end) {
			r.Requests++
			r.Records += records
			r.Bytes += bytes
			r.Latency.Record(now.Sub(sent[0]))
		}
		sent = append(sent[:0], sent[1:]...)
	}
}

// readFrame reads one answer into buf.
func readFrame(in *bufio.Reader, buf []byte) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return buf, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n < 4 || n > maxResponse {
		return buf, fmt.Errorf("an answer of %d bytes", n)
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(in, buf)
	return buf, err
}

// reader takes an answer apart.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad = true
		return make([]byte, 8)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) i16() int16 { return int16(binary.BigEndian.Uint16(r.take(2))) }
func (r *reader) i32() int32 { return int32(binary.BigEndian.Uint32(r.take(4))) }
func (r *reader) i64() int64 { return int64(binary.BigEndian.Uint64(r.take(8))) }

// count is the length of an array, whose elements have at least a byte.
func (r *reader) count() int {
	n := int(r.i32())
	if n < 0 || n > len(r.b) {
		r.bad = true
		return 0
	}
	return n
}
