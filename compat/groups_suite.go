package main

import (
	"context"
	"errors"
)

// groupSettings make a member that crashed be missed within seconds with both protocols.
func groupSettings() []string {
	return []string{"group.consumer.min.session.timeout.ms=6000", "group.consumer.session.timeout.ms=6000",
		"group.consumer.min.heartbeat.interval.ms=500", "group.consumer.heartbeat.interval.ms=1000"}
}

// groupsChecks is the suite groups.
func (b *bench) groupsChecks(ctx context.Context) (err error) {
	t, err := b.newTarget("groups", groupSettings()...)
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
	clients := b.groupClients(t.bootstrap)
	return b.groupMatrix(ctx, t, ref, clients)
}
