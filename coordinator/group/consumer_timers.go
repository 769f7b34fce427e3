package group

import "time"

// timerKey names a timer of a member of a consumer group. Members are replaced with each of their records, so their
// timers are kept aside.
type timerKey struct {
	kind          timerKind
	group, member string
}

// armFor starts a timer of a member anew.
func (t *turn) armFor(kind timerKind, group, member string, d time.Duration) *timer {
	key := timerKey{kind, group, member}
	due := t.named[key]
	if due == nil {
		due = &timer{kind: kind, consumer: group, member: member}
		t.named[key] = due
	}
	t.timers.arm(due, t.now.Add(d))
	return due
}

// armOnce starts a timer of a member unless it runs.
func (t *turn) armOnce(kind timerKind, group, member string, d time.Duration) {
	if t.named[timerKey{kind, group, member}] == nil {
		t.armFor(kind, group, member, d)
	}
}

// stopFor stops a timer of a member.
func (t *turn) stopFor(kind timerKind, group, member string) {
	key := timerKey{kind, group, member}
	if due := t.named[key]; due != nil {
		t.timers.stop(due)
		delete(t.named, key)
	}
}

// stopAll stops all timers of a member.
func (t *turn) stopAll(group, member string) {
	for kind := consumerSessionTimer; kind <= consumerSyncTimer; kind++ {
		t.stopFor(kind, group, member)
	}
}
