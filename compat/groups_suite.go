package main

import (
	"context"
	"errors"
	"fmt"
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
		members = b.groupBroker(ctx, "groups", groupSettings(), func(t *target, ref *reference) error {
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
		if b.members == nil {
			b.report.add(result{suite: "groups", client: "tools", check: "scripts", outcome: notRun, reason: clients[0].missing})
			return
		}
		tools = b.groupBroker(ctx, "group-tools", nil, func(_ *target, ref *reference) error { return b.groupToolChecks(ctx, ref) })
	})
	wg.Wait()
	if err := errors.Join(members, tools); err != nil {
		return err
	}
	return b.groupSpeed(ctx, clients)
}

// groupBroker runs f with a broker of its own.
func (b *bench) groupBroker(ctx context.Context, name string, settings []string, f func(*target, *reference) error) (err error) {
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
	return nil
}
