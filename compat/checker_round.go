package main

import (
	"bufio"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/rotpeter/rotpeter/compat/checker"
)

const (
	checkerPartitions = 8
	// checkerOwnIDs is where the numbers of the clients in this process begin; those in other processes have the ranges behind.
	checkerOwnIDs, checkerIDs = 1, 100_000_000
	// checkerTxnTimeout bounds how long a transaction that is left alone is open.
	checkerTxnTimeout = 5 * time.Second
)

// checkerRound is one round of the checker: a topic, its clients and its history. What it took to memory goes with it.
type checkerRound struct {
	b     *bench
	t     *target
	name  string // of the topic
	seed  uint64
	began time.Time

	bootstrap string // of the broker, which keeps it

	ids  atomic.Uint32 // of producers, transactions and commits of this process
	path string        // of the history as text

	mu   sync.Mutex
	h    *checker.History
	file *os.File
	text *bufio.Writer
	err  error // of the checker itself: a line that it did not understand
	kept checkerCounts
}

// checkerCounts is what a round, or all of them, did.
type checkerCounts struct {
	ops                      map[string]int64 // "send ok" and the like
	records, polled, polls   int64
	kills, pauses, restarts  int64
	facts                    map[checker.Rule]int64
	removed, writeCycles     int64
	found                    []checker.Violation
	took, judged             time.Duration
	downtime                 time.Duration
	heapMegabytes, millionOp float64
}

func newCheckerCounts() checkerCounts {
	return checkerCounts{ops: map[string]int64{}, facts: map[checker.Rule]int64{}}
}

// monotonic is the clock that all processes of a machine share, in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return ts.Nano()
}

func (b *bench) newCheckerRound(t *target, number int, ids *checker.ProducerIDs) (*checkerRound, error) {
	r := &checkerRound{b: b, t: t, bootstrap: t.bootstrap, name: fmt.Sprintf("checked-%d", number), seed: b.seed + uint64(number)<<32, began: time.Now(),
		path: filepath.Join(b.work, fmt.Sprintf("history-%d", number)), h: checker.New(checkerPartitions+1, ids), kept: newCheckerCounts()}
	r.ids.Store(checkerOwnIDs)
	var err error
	if r.file, err = os.Create(r.path); err != nil {
		return nil, err
	}
	r.text = bufio.NewWriterSize(r.file, 1<<20)
	return r, nil
}

// tell adds lines to the history.
func (r *checkerRound) tell(lines ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tellLocked(lines...)
}

func (r *checkerRound) tellLocked(lines ...string) {
	for _, line := range lines {
		r.text.WriteString(line)
		r.text.WriteByte('\n')
		if err := r.h.Apply(line); err != nil && r.err == nil {
			r.err = err
		}
		r.count(line)
	}
}

// count tallies operations by their kind and outcome.
func (r *checkerRound) count(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "sent", "end", "committed":
		f := strings.Fields(rest)
		r.kept.ops[verb+" "+f[1]]++
	case "poll":
		n := int64(strings.Count(rest, "="))
		r.kept.polls++
		r.kept.polled += n
	case "fetched", "producer", "begin", "ask", "high", "put":
		r.kept.ops[verb]++
	}
}

func (r *checkerRound) tellf(format string, args ...any) { r.tell(fmt.Sprintf(format, args...)) }

// note adds a remark, with the seconds since the round began.
func (r *checkerRound) note(format string, args ...any) {
	r.tellf("# %.3f %s", time.Since(r.began).Seconds(), strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
}

// check judges what can be judged, and answers what is wrong.
func (r *checkerRound) check(word string) []checker.Violation {
	r.mu.Lock()
	defer r.mu.Unlock()
	began := time.Now()
	r.tellLocked(fmt.Sprintf("%s %d", word, monotonic()))
	r.kept.judged += time.Since(began)
	return slices.Clone(r.h.Violations())
}

// next is a fresh number, for a producer, a transaction or a commit.
func (r *checkerRound) next() uint32 { return r.ids.Add(1) }

// random is a client's own source.
func (r *checkerRound) random(name string) *rand.Rand {
	hash := fnv.New64a()
	hash.Write([]byte(name))
	return rand.New(rand.NewPCG(r.seed, hash.Sum64()))
}

// value is a value on the wire, of some length.
func checkerValue(rng *rand.Rand, v checker.Value) []byte {
	n := 20 + rng.IntN(200)
	if rng.IntN(50) == 0 {
		n = 8000
	}
	return append([]byte(v.String()+"."), strings.Repeat("x", n)...)
}

// options are what all clients of this process have: they ask again soon, and give up a connection that is silent.
func (r *checkerRound) options(name string, more ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{kgo.SeedBrokers(r.bootstrap), kgo.ClientID(name), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(10 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }), kgo.RequestRetries(1000), kgo.RetryTimeout(60 * time.Second),
		kgo.RequestTimeoutOverhead(2 * time.Second), kgo.ProduceRequestTimeout(2 * time.Second), kgo.ProducerLinger(2 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DefaultProduceTopic(r.name),
		kgo.FetchMaxWait(200 * time.Millisecond)}, more...)
}

// pause waits, shorter if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// checkerReads is a poll as words, and how many records it gave.
func checkerReads(fetches kgo.Fetches) (string, int) {
	var s strings.Builder
	n := 0
	fetches.EachRecord(func(k *kgo.Record) {
		v := checker.ParseValue(k.Value)
		if k.Attrs.IsControl() {
			v = checker.AbortMarker
			if len(k.Key) >= 4 && k.Key[3] == 1 {
				v = checker.CommitMarker
			}
		}
		s.WriteByte(' ')
		s.WriteString(checker.Read{Partition: k.Partition, Offset: k.Offset, Value: v}.String())
		n++
	})
	return s.String(), n
}
