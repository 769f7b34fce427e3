package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	mutations = 1000
	// mutationsTogether is how many connections send mutated requests at a time.
	mutationsTogether = 16
	// answerWithin is how long a mutated request may stay without an answer or
	// a close once its connection is half closed; a long poll may wait longer.
	answerWithin = 2 * time.Second
	answerMoment = 200 * time.Millisecond
	// hostileMegabytes is the memory that the broker may reach under all of
	// this: its budget for requests (512 MB) is never asked for in full.
	hostileMegabytes = 400
)

// hostileChecks sends mutated requests and runs the hostile cases; after each,
// the broker serves others, each connection is closed and counted by reason,
// and memory stays within its budget.
func (b *bench) hostileChecks(ctx context.Context) error {
	frames, err := loadFrames(filepath.Join(filepath.Dir(b.source), "testdata", "frames"))
	if err != nil {
		return err
	}
	if err := b.memoryCheck(ctx); err != nil {
		return err
	}
	return b.withBroker(ctx, "hostile", func(t *target, ref *reference) error {
		if err := ref.create(ctx, "bystander", checkPartitions); err != nil {
			return err
		}
		cases := append([]hostileCase{{"1,000 mutated requests", func(ctx context.Context, t *target) (int, error) {
			return sendMutations(ctx, t.bootstrap, frames, b.seed)
		}}}, hostileCases()...)
		for _, k := range cases {
			if !b.wants("hostile", t.name, k.name) {
				continue
			}
			began := time.Now()
			measure, err := b.hostileCase(ctx, t, ref, k)
			b.report.note("hostile", t.name, k.name, time.Since(began), measure, err)
			if !t.Alive() {
				return errors.New("the broker ended")
			}
		}
		return nil
	})
}

// hostileCase runs one case and what must hold after it.
func (b *bench) hostileCase(ctx context.Context, t *target, ref *reference, k hostileCase) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	before, err := closedByReason(ctx, t)
	if err != nil {
		return "", err
	}
	opened, err := k.run(ctx, t)
	if err != nil {
		return "", err
	}
	if !t.Alive() {
		return "", errors.New("the broker ended")
	}
	if err := bystander(ctx, ref); err != nil {
		return "", fmt.Errorf("another client afterwards: %w", err)
	}
	peak := t.megabytes("VmHWM")
	measure := fmt.Sprintf("%d connections, peak memory %.0f MB", opened, peak)
	if t.http == "" {
		return measure, nil
	}
	var reasons string
	err = eventually(ctx, func() error {
		after, err := closedByReason(ctx, t)
		if err != nil {
			return err
		}
		var sum float64
		reasons = ""
		for _, reason := range slices.Sorted(maps.Keys(after)) {
			if n := after[reason] - before[reason]; n > 0 {
				sum += n
				reasons += fmt.Sprintf(" %s:%.0f", reason, n)
			}
		}
		if sum < float64(opened) {
			return fmt.Errorf("%.0f connections were counted as closed, want %d:%s", sum, opened, reasons)
		}
		return nil
	})
	if err == nil && peak > hostileMegabytes {
		err = fmt.Errorf("peak memory %.0f MB, limit %d", peak, hostileMegabytes)
	}
	return measure + ", closed as" + reasons, err
}

// bystander is an honest client: it must get its record written at once.
func bystander(ctx context.Context, ref *reference) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return ref.produce(ctx, "bystander", "none", false, []record{{Key: []byte("k"), Value: []byte("v")}})
}

// closedByReason reads the broker's count of closed connections.
func closedByReason(ctx context.Context, t *target) (map[string]float64, error) {
	if t.http == "" {
		return nil, nil
	}
	text, err := t.metrics(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, `rotpeter_connections_closed_total{`)
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		_, reason, _ := strings.Cut(labels, `reason="`)
		reason, _, _ = strings.Cut(reason, `"`)
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return nil, fmt.Errorf("/metrics says %q: %w", line, err)
		}
		out[reason] += n
	}
	if len(out) == 0 {
		return nil, errors.New("/metrics has no rotpeter_connections_closed_total")
	}
	return out, nil
}

// sendMutations sends each mutated request on a connection of its own, says
// that no more follows, and waits for the answer or the end.
func sendMutations(ctx context.Context, addr string, frames [][]byte, seed uint64) (int, error) {
	random := rand.New(rand.NewPCG(seed, seed))
	turns := make(chan struct{}, mutationsTogether)
	var wg sync.WaitGroup
	var silent atomic.Int64
	for range mutations {
		request := mutate(random, frames[random.IntN(len(frames))])
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if !sendOne(ctx, addr, request) {
				silent.Add(1)
			}
		})
	}
	wg.Wait()
	// A long poll or a join may take its time; a broker that answers nobody does not.
	if n := silent.Load(); n > mutations/10 {
		return 0, fmt.Errorf("%d of %d mutated requests (seed %d) were neither answered nor closed within %v", n, mutations, seed, answerWithin)
	}
	return mutations, ctx.Err()
}

// sendOne sends a request, gives the broker a moment to answer it, says that
// nothing follows, and says whether the broker then closed the connection in time.
func sendOne(ctx context.Context, addr string, request []byte) bool {
	conn, err := dial(ctx, addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerMoment))
	if _, err := conn.Write(request); err != nil {
		return !isTimeout(err) // refused before it was whole
	}
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil && !isTimeout(err) {
		return true
	}
	conn.CloseWrite()
	return readClosed(conn, answerWithin) == nil
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// readClosed waits until the broker closes a connection; with an answer first
// or without.
func readClosed(conn net.Conn, within time.Duration) error {
	conn.SetReadDeadline(time.Now().Add(within))
	_, err := io.Copy(io.Discard, conn)
	if isTimeout(err) {
		return fmt.Errorf("the connection was still open after %v", within)
	}
	return nil
}
