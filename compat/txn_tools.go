package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// txnScripts is the folder of the script tools.
const txnScripts = "testdata/transactions"

// txnToolTopic has the transactions that the tools look at.
const txnToolTopic = "transacted"

// txnTools looks with Kafka's tools, in one JVM, at transactions in all states,
// and ends one that hangs; with -golden it writes down what Kafka's print.
func (b *bench) txnTools(ctx context.Context, ref *reference) error {
	if b.classes == nil {
		b.report.add(result{suite: "transactions", client: "tools", check: "script", outcome: notRun, reason: "no Java"})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	began := time.Now()
	closeAll, err := makeTransactions(ctx, ref)
	defer closeAll()
	if err != nil {
		return err
	}
	player, err := b.newToolPlayer(b.classes, ref.bootstrap, txnScripts)
	if err != nil {
		return err
	}
	defer player.Close()
	n, err := player.play(ctx, "tools", b.golden && b.target == "kafka")
	b.report.note("transactions", "tools", "script", time.Since(began), fmt.Sprintf("%d runs", n), err)
	return nil
}

// makeTransactions makes a transaction in each state and two that hang: old
// clients' that no coordinator knows of, one by a producer that is known, one by
// a producer that nobody ever gave its id to. Their records are an hour old.
func makeTransactions(ctx context.Context, ref *reference) (closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for _, c := range closers {
			c()
		}
	}
	if err := ref.create(ctx, txnToolTopic, 2); err != nil {
		return closeAll, err
	}
	raw := func(id string, old bool) (*rawTxn, error) {
		t, err := newRawTxn(ref.bootstrap, id, old)
		if err != nil {
			return nil, err
		}
		closers = append(closers, t.close)
		return t, t.init(ctx)
	}
	for _, commit := range []bool{true, false} {
		t, err := raw(map[bool]string{true: "is-committed", false: "is-aborted"}[commit], false)
		if err == nil {
			err = errors.Join(t.produce(ctx, txnToolTopic, 0, time.Now(), fmt.Sprintf("of a transaction with commit %v", commit)), t.end(ctx, commit))
		}
		if err != nil {
			return closeAll, err
		}
	}
	if _, err := raw("is-empty", false); err != nil {
		return closeAll, err
	}
	open, err := raw("is-open", false)
	if err == nil {
		err = open.produce(ctx, txnToolTopic, 1, time.Now(), "of an open transaction", "twice")
	}
	if err != nil {
		return closeAll, err
	}
	hanging, err := raw("hangs", true)
	if err == nil {
		err = hanging.produce(ctx, txnToolTopic, 0, time.Now().Add(-time.Hour), "of a transaction that hangs")
	}
	if err != nil {
		return closeAll, err
	}
	unknown, err := newRawTxn(ref.bootstrap, "hangs-unknown", true)
	if err == nil {
		closers = append(closers, unknown.close)
		unknown.producer, unknown.epoch = 4242, 7
		err = unknown.produce(ctx, txnToolTopic, 1, time.Now().Add(-time.Hour), "of a producer that nobody knows")
	}
	if err != nil {
		return closeAll, err
	}
	after := &kgo.Record{Topic: txnToolTopic, Partition: 0, Value: []byte("behind it")}
	cl, err := kgo.NewClient(kgo.SeedBrokers(ref.bootstrap), kgo.DisableIdempotentWrite(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return closeAll, err
	}
	defer cl.Close()
	return closeAll, cl.ProduceSync(ctx, after).FirstErr()
}
