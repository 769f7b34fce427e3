package main

import (
	"context"
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
		err := b.bareBroker(ctx, "transaction-tools", unverified, func(t *target, ref *reference) error {
			b.leaveData(t)
			return b.txnTools(ctx, ref)
		})
		if err != nil {
			return err
		}
	}
	if err := b.txnDelayed(ctx, clients); err != nil {
		return err
	}
	if err := b.txnApplications(ctx); err != nil {
		return err
	}
	return b.bareBroker(ctx, "transactions", transactionSettings(), func(t *target, ref *reference) error {
		b.leaveData(t)
		if err := b.txnLateEnds(ctx, ref); err != nil {
			return err
		}
		return b.txnTransform(ctx, t, ref, clients)
	})
}

// leaveData gives the data of a broker to the suites dump and check, once it has stopped.
func (b *bench) leaveData(t *target) { b.dirs = append(b.dirs, t.data) }
