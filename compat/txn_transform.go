package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	txnPartitions = 4
	// txnRecords is how many records a partition of the input has.
	txnRecords = 500
	// txnHold is the number of the transaction in which a process is killed.
	txnHold = 4
	// txnStarts is how often a process may be started: a client may give up for good when its broker dies. Between
	// two starts is txnPause: some end at once while the broker is away.
	txnStarts = 12
	txnPause  = 2 * time.Second
	// txnWithin bounds the writing; the reading has checkWithin.
	txnWithin = 2 * time.Minute
)

// txnRun is one client that goes through the scenario.
type txnRun struct {
	client    txnClient
	in, out   string
	group     string
	tally     txnTally
	starts    atomic.Int64
	committed atomic.Int64 // records of the input behind the group's offsets
	took      time.Duration
	err       error
}

// txnTransform has all clients consume, transform and produce, each killed with
// SIGKILL in a transaction and started again, the broker too, twice. What each
// wrote is then read by another client: with read_committed every record of the
// input once and in order, and with read_uncommitted more.
func (b *bench) txnTransform(ctx context.Context, t *target, ref *reference, clients []txnClient) error {
	var runs []*txnRun
	for _, c := range clients {
		if !b.wants("transactions", c.name, "transform") {
			continue
		}
		if c.missing != "" {
			b.report.add(result{suite: "transactions", client: c.name, check: "transform", outcome: notRun, reason: c.missing})
			continue
		}
		name := strings.ReplaceAll(c.name, " ", "-")
		r := &txnRun{client: c, in: "in-" + name, out: "out-" + name, group: "transforms-" + name}
		if err := r.fill(ctx, ref); err != nil {
			return err
		}
		runs = append(runs, r)
	}
	if len(runs) == 0 {
		return nil
	}
	writing, cancel := context.WithTimeout(ctx, txnWithin)
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range runs {
		wg.Go(func() {
			began := time.Now()
			r.err = r.transform(writing, b, ref)
			r.took = time.Since(began)
		})
	}
	began := time.Now()
	err := killMidway(writing, t, runs)
	wg.Wait()
	b.report.note("transactions", t.name, "twice SIGKILL and restart", time.Since(began), "", err)
	turns := make(chan struct{}, together)
	for _, r := range runs {
		measure := fmt.Sprintf("%d committed, %d aborted, %d starts", r.tally.commits.Load(), r.tally.aborts.Load(), r.starts.Load())
		b.report.note("transactions", r.client.name, "transform", r.took, measure, r.err)
		i := slices.IndexFunc(clients, func(c txnClient) bool { return c.name == r.client.reader })
		if r.err != nil {
			continue
		}
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(ctx, checkWithin)
			defer cancel()
			began := time.Now()
			measure, err := r.read(ctx, b, ref, clients[i])
			b.report.note("transactions", clients[i].name, "reads what "+r.client.name+" wrote", time.Since(began), measure, err)
		})
	}
	wg.Wait()
	return nil
}

// fill makes the topics and the input, whose values are PARTITION:NUMBER.
func (r *txnRun) fill(ctx context.Context, ref *reference) error {
	if err := errors.Join(ref.create(ctx, r.in, txnPartitions), ref.create(ctx, r.out, txnPartitions)); err != nil {
		return err
	}
	var rs []record
	for p := range int32(txnPartitions) {
		for i := range txnRecords {
			value := fmt.Appendf(nil, "%d:%d", p, i)
			rs = append(rs, record{Partition: p, Key: value, Value: value})
		}
	}
	return ref.produce(ctx, r.in, "none", true, rs)
}

// transform runs the processes until the group has committed the end of the input.
func (r *txnRun) transform(ctx context.Context, b *bench, ref *reference) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	errs := make([]error, r.client.members)
	for i := range r.client.members {
		wg.Go(func() {
			if errs[i] = r.keep(ctx, b, ref.bootstrap, i); errs[i] != nil {
				cancel()
			}
		})
	}
	err := r.wait(ctx, ref)
	cancel()
	wg.Wait()
	return errors.Join(append(errs, err)...)
}

// keep keeps a process alive until ctx ends; the first one is killed in a transaction.
func (r *txnRun) keep(ctx context.Context, b *bench, bootstrap string, i int) error {
	id := fmt.Sprintf("%s-%d", r.group, i)
	for n := range txnStarts {
		hold := 0
		if n == 0 && i == 0 {
			hold = txnHold
		}
		r.starts.Add(1)
		cmd := r.client.command(bootstrap, "transform", r.in, r.out, r.group, id, strconv.FormatUint(b.seed+uint64(10*i+n), 10), strconv.Itoa(hold))
		p, err := startTransform(cmd, b.log, &r.tally)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if err := p.stop(); err != nil {
				// The broker may be away just then: what it did is judged by what was written.
				fmt.Fprintf(b.log, "%s ended: %v\n", id, err)
			}
			return nil
		case <-p.holding:
			p.kill()
		case <-p.done:
			fmt.Fprintf(b.log, "%s ended: %v\n", id, p.err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(txnPause):
			}
		}
	}
	return fmt.Errorf("%s ended %d times, the last error is in the log", id, txnStarts)
}

// wait waits until the group has committed the end of the input.
func (r *txnRun) wait(ctx context.Context, ref *reference) error {
	for {
		offsets, err := ref.admin.FetchOffsets(ctx, r.group)
		if err == nil {
			var sum int64
			for _, o := range offsets[r.in] {
				sum += max(o.At, 0)
			}
			r.committed.Store(sum)
			if sum == txnPartitions*txnRecords {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d records were transformed: %w", r.committed.Load(), txnPartitions*txnRecords, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// killMidway kills and restarts the broker twice: when an eighth of all input is
// transformed, which finds the fast clients at work, and when half of it is.
func killMidway(ctx context.Context, t *target, runs []*txnRun) error {
	for _, part := range []int64{8, 2} {
		for {
			var sum int64
			for _, r := range runs {
				sum += r.committed.Load()
			}
			if sum >= int64(len(runs))*txnPartitions*txnRecords/part {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("1/%d of the input was not transformed: %w", part, ctx.Err())
			case <-time.After(5 * time.Millisecond):
			}
		}
		if err := t.Kill(); err != nil {
			return err
		}
		if err := t.Start(); err != nil {
			return err
		}
	}
	return nil
}

// read has a client read what was written, and judges that.
func (r *txnRun) read(ctx context.Context, b *bench, ref *reference, c txnClient) (measure string, err error) {
	if c.missing != "" {
		return "", errors.New(c.missing)
	}
	var ends []record
	for p := range int32(txnPartitions) {
		ends = append(ends, record{Partition: p, Value: []byte("end")})
	}
	if err := ref.produce(ctx, r.out, "none", true, ends); err != nil {
		return "", err
	}
	cmd := c.command(ref.bootstrap, "read", r.out, strconv.Itoa(txnPartitions))
	timer := time.AfterFunc(checkWithin/2, func() { cmd.Process.Kill() })
	defer timer.Stop()
	out, err := output(cmd, nil, b.log)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", r.out, err)
	}
	return judgeTransformed(out, txnPartitions, txnRecords)
}

// judgeTransformed says what is wrong with what a reader printed of a topic that
// shall have each of records values of each of partitions once and in order.
func judgeTransformed(printed []byte, partitions, records int) (measure string, err error) {
	next := make([]int, partitions)
	last := make([]int64, partitions)
	for p := range last {
		last[p] = -1
	}
	committed, all := 0, 0
	for lines := bufio.NewScanner(bytes.NewReader(printed)); lines.Scan(); {
		var isolation, value string
		var partition int
		var offset int64
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %d %s", &isolation, &partition, &offset, &value); err != nil || partition < 0 || partition >= partitions {
			return "", fmt.Errorf("the reader printed %q", lines.Text())
		}
		if isolation == "read_uncommitted" {
			all++
			continue
		}
		committed++
		if want := fmt.Sprintf("%d:%d", partition, next[partition]); value != want || offset <= last[partition] {
			return "", fmt.Errorf("partition %d has %s at offset %d, after offset %d; %s is next", partition, value, offset, last[partition], want)
		}
		next[partition]++
		last[partition] = offset
	}
	for p, n := range next {
		if n != records {
			return "", fmt.Errorf("partition %d has %d of %d records", p, n, records)
		}
	}
	if all <= committed {
		return "", fmt.Errorf("with read_uncommitted %d records are seen, with read_committed %d", all, committed)
	}
	return fmt.Sprintf("%d committed of %d", committed, all), nil
}
