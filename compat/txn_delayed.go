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
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	delayedPartitions = latePartitions
	// delayedRounds is how many ends meet the next transaction, at least, by each of the protocols.
	delayedRounds = 1000
	// delayedProducers is how many producers a client has.
	delayedProducers = 8
)

// delayedWriter is a client that writes transactions over a network that delays
// requests: a program with a mode, after the argv of txnClient:
//
//	late TOPIC PARTITIONS NAME PRODUCERS ROUNDS SEED [old]
//
// Each of its producers, whose transactional ids are NAME-0 and so on, writes
// ROUNDS transactions, numbered from 0: the value "ID NUMBER" once to each
// partition, in an order of chance, each record by itself. It commits or aborts,
// and prints a line "commit ID NUMBER" or "abort ID NUMBER" when it knows that
// this is done. "failed ID NUMBER why" says that it cannot go on. With old it
// speaks the protocol of before KIP-890, though it knows the newer one.
type delayedWriter struct {
	txnClient
	old   bool
	share int // of delayedRounds, in percent
}

// delayedWriters are the clients by which each protocol is tried.
func delayedWriters(clients []txnClient, old bool) (all []delayedWriter) {
	share := map[string]int{"java": 50, "franz-go": 50}
	if old {
		share = map[string]int{"java 3.9": 35, "franz-go": 35, "confluent-kafka": 30}
	}
	for _, c := range clients {
		if share[c.name] > 0 {
			all = append(all, delayedWriter{c, old, share[c.name]})
		}
	}
	return all
}

// txnDelayed has each EndTxn of clients delayed by the network until their
// producer is in its next transaction (KAFKA-17754), by today's protocol and by
// the one of before KIP-890. Each transaction is whole: committed or aborted on
// all partitions as its client was told, and no client notices more than a lost
// connection. Apache Kafka loses by the older protocol; what it loses is measured.
func (b *bench) txnDelayed(ctx context.Context, clients []txnClient) error {
	for _, k := range []struct {
		check string
		old   bool
	}{{"delayed ends", false}, {"delayed ends of old clients", true}} {
		if !b.wants("transactions", "delayer", k.check) {
			continue
		}
		var writers []delayedWriter
		for _, w := range delayedWriters(clients, k.old) {
			if w.missing == "" {
				writers = append(writers, w)
				continue
			}
			b.report.add(result{suite: "transactions", client: w.name, check: k.check, outcome: notRun, reason: w.missing})
		}
		if len(writers) == 0 {
			continue
		}
		began := time.Now()
		measure, err := b.delayedEnds(ctx, writers)
		if torn := (*tornError)(nil); b.target == "kafka" && k.old && errors.As(err, &torn) {
			measure, err = "a loss that is known: "+torn.Error(), nil
		}
		b.report.note("transactions", "delayer", k.check, time.Since(began), measure, err)
	}
	return nil
}

// delayedEnds runs the clients with a broker of their own behind a delayer.
func (b *bench) delayedEnds(ctx context.Context, writers []delayedWriter) (measure string, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	d, err := newDelayer(b.seed)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	t, err := b.newTarget("delayed-"+strconv.FormatBool(writers[0].old), transactionSettings()...)
	if err != nil {
		return "", err
	}
	t.advertise = d.addr()
	if err := t.Start(); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, t.Stop()) }()
	go d.serve(t.bootstrap)
	b.leaveData(t)
	ref, err := newReference(t.bootstrap)
	if err != nil {
		return "", err
	}
	defer ref.close()
	if err := ref.create(ctx, lateTopic, latePartitions); err != nil {
		return "", err
	}
	var wg sync.WaitGroup
	outs, errs := make([][]byte, len(writers)), make([]error, len(writers))
	for i, w := range writers {
		wg.Go(func() { outs[i], errs[i] = w.write(ctx, b, d.addr()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	n, answers := d.tally()
	want := 0
	for _, w := range writers {
		want += w.rounds() * delayedProducers
	}
	if want -= delayedProducers * len(writers); n < want { // the last one of a producer meets nothing
		err = fmt.Errorf("%d ends met the next transaction, and not %d", n, want)
	}
	seen, readErr := committedValues(ctx, ref)
	return fmt.Sprintf("%d ends met the next transaction: %s", n, answers),
		errors.Join(err, readErr, judgeDelayed(bytes.Join(outs, nil), seen, delayedPartitions))
}

// rounds is how many transactions each of its producers writes.
func (w delayedWriter) rounds() int { return delayedRounds*w.share/100/delayedProducers + 2 }

// write runs a client to its end and answers what it printed.
func (w delayedWriter) write(ctx context.Context, b *bench, bootstrap string) ([]byte, error) {
	mode := []string{"late", lateTopic, strconv.Itoa(delayedPartitions), strings.ReplaceAll(w.name, " ", "-"),
		strconv.Itoa(delayedProducers), strconv.Itoa(w.rounds()), strconv.FormatUint(b.seed, 10)}
	if w.old {
		mode = append(mode, "old")
	}
	cmd := w.command(bootstrap, mode...)
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	out, err := output(cmd, nil, b.log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.name, err)
	}
	return out, nil
}

// committedValues reads with read_committed how often each value is in each partition.
func committedValues(ctx context.Context, ref *reference) (seen []map[string]int, err error) {
	var ends []record
	for p := range int32(delayedPartitions) {
		ends = append(ends, record{Partition: p, Value: []byte("end")})
		seen = append(seen, map[string]int{})
	}
	if err := ref.produce(ctx, lateTopic, "none", true, ends); err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(ref.bootstrap), kgo.ConsumeTopics(lateTopic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for ended := 0; ended < delayedPartitions; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d partitions were read: %w", ended, delayedPartitions, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) == "end" {
				ended++
				return
			}
			seen[r.Partition][string(r.Value)]++
		})
	}
	return seen, nil
}

// tornError says which transactions are not as their clients were told.
type tornError struct {
	all  int
	torn []string
}

func (e *tornError) Error() string {
	few := e.torn[:min(len(e.torn), 5)]
	return fmt.Sprintf("%d of %d transactions are not what their clients were told: %s", len(e.torn), e.all, strings.Join(few, "; "))
}

// judgeDelayed holds what clients printed against what is seen in each partition.
func judgeDelayed(printed []byte, seen []map[string]int, partitions int) error {
	e := &tornError{}
	told := map[string]int{} // how often a value is to be in each partition
	for lines := bufio.NewScanner(bytes.NewReader(printed)); lines.Scan(); {
		f := strings.SplitN(lines.Text(), " ", 4)
		if len(f) < 3 || !slices.Contains([]string{"commit", "abort", "failed"}, f[0]) {
			return fmt.Errorf("a client printed %q", lines.Text())
		}
		e.all++
		value := f[1] + " " + f[2]
		told[value] = 0
		switch f[0] {
		case "commit":
			told[value] = 1
		case "failed":
			e.torn = append(e.torn, lines.Text())
		}
		for p := range partitions {
			if n := seen[p][value]; n != told[value] && f[0] != "failed" {
				e.torn = append(e.torn, fmt.Sprintf("%s, and it is %d times in partition %d", lines.Text(), n, p))
			}
		}
	}
	for p := range partitions {
		for value := range seen[p] {
			if _, ok := told[value]; !ok {
				e.torn = append(e.torn, fmt.Sprintf("nobody wrote %q, and it is in partition %d", value, p))
			}
		}
	}
	if len(e.torn) > 0 {
		slices.Sort(e.torn)
		return e
	}
	return nil
}
