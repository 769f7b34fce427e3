package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// transactionSettings are those of the brokers of the suite: members that died are missed soon.
func transactionSettings() []string {
	return []string{"group.consumer.min.session.timeout.ms=6000", "group.consumer.session.timeout.ms=6000",
		"group.consumer.min.heartbeat.interval.ms=500", "group.consumer.heartbeat.interval.ms=1000"}
}

// transactionChecks is the suite transactions.
func (b *bench) transactionChecks(ctx context.Context) error {
	clients := b.txnClients()
	if b.wants("transactions", "tools", "script") {
		// An old client's batches are taken although its coordinator does not know of them.
		unverified := []string{"transaction.partition.verification.enable=false"}
		err := b.txnBroker(ctx, "transaction-tools", unverified, func(_ *target, ref *reference) error { return b.txnTools(ctx, ref) })
		if err != nil {
			return err
		}
	}
	return b.txnBroker(ctx, "transactions", transactionSettings(), func(t *target, ref *reference) error {
		if err := b.txnLateEnds(ctx, ref); err != nil {
			return err
		}
		var wg sync.WaitGroup
		wg.Go(func() { b.txnWords(ctx, ref) })
		err := b.txnTransform(ctx, t, ref, clients)
		wg.Wait()
		return err
	})
}

// txnBroker runs f with a broker of its own, which leaves its data to the suite dump.
func (b *bench) txnBroker(ctx context.Context, name string, settings []string, f func(*target, *reference) error) (err error) {
	t, err := b.newTarget(name, settings...)
	if err != nil {
		return err
	}
	if err := t.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Stop()) }()
	ref, err := newReference(t.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	if err := f(t, ref); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.dirs = append(b.dirs, t.data)
	return ctx.Err()
}
