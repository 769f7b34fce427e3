package main

import (
	"context"
	"errors"
	"sync"
)

// groupSettings make a member that crashed be missed within seconds with both protocols.
func groupSettings() []string {
	return []string{"group.consumer.min.session.timeout.ms=6000", "group.consumer.session.timeout.ms=6000",
		"group.consumer.min.heartbeat.interval.ms=500", "group.consumer.heartbeat.interval.ms=1000"}
}

// groupsChecks is the suite groups: two brokers side by side, one that is killed under clients, the other for tools.
func (b *bench) groupsChecks(ctx context.Context) error {
	var wg sync.WaitGroup
	var members, tools error
	// What both need is installed once, before.
	clients := b.groupClients()
	wg.Go(func() {
		members = b.bareBroker(ctx, "groups", groupSettings(), func(t *target, ref *reference) error {
			if err := b.groupMatrix(ctx, t, ref, clients); err != nil {
				return err
			}
			var wg sync.WaitGroup
			var migration, static error
			wg.Go(func() { migration = b.groupMigration(ctx, t, ref, clients) })
			wg.Go(func() { static = b.groupStatic(ctx, t, ref, clients) })
			wg.Wait()
			return errors.Join(migration, static)
		})
	})
	wg.Go(func() {
		if b.classes == nil {
			b.report.add(result{suite: "groups", client: "tools", check: "scripts", outcome: notRun, reason: clients[0].missing})
			return
		}
		tools = b.bareBroker(ctx, "group-tools", nil, func(_ *target, ref *reference) error { return b.groupToolChecks(ctx, ref) })
	})
	wg.Wait()
	if err := errors.Join(members, tools); err != nil {
		return err
	}
	return b.groupSpeed(ctx, clients)
}
