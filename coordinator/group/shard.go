package group

import (
	"maps"
	"slices"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/invariant"
	"github.com/rotpeter/rotpeter/internal/mutant"
)

// Shard is the coordinator.Shard of one partition of __consumer_offsets.
type Shard struct {
	o      Options
	groups map[string]*group
	named  map[timerKey]*timer // of members of consumer groups
	timers timers
	expiry timer
	turn   *turn // of the event that is being handled: one for all, so that an event does not allocate it

	// Hard, with group.kept.
	offsets     map[string]map[topicPartition]offset // by group
	open        map[int64]*transaction               // by producer id
	marks       marks
	connections connections
	consumers   map[string]*consumerGroup
	foreign     map[string]*foreignGroup // groups of other types
	applied     uint64                   // records
	skipped     int64                    // of them, how many made no sense

	cluster     Cluster
	newTopicsAt int64                  // offset of the metadata log at which topics were created last; -1: not known
	hashes      map[string]hashedTopic // by name
	resolving   map[string]bool        // groups whose regular expressions are being matched

	// Derived from open: how many transactions hold an offset of it.
	unstable      map[groupPartition]int
	unstableGroup map[string]int
}

// transaction is what one producer has committed and not ended.
type transaction struct {
	epoch   int16
	offsets map[groupPartition]offset
}

// groupPartition names a committed offset.
type groupPartition struct {
	group string
	topicPartition
}

// New returns an empty shard. Loaded must be called before Handle.
func New(o Options) *Shard {
	return &Shard{
		turn:          &turn{},
		o:             o,
		groups:        map[string]*group{},
		named:         map[timerKey]*timer{},
		consumers:     map[string]*consumerGroup{},
		cluster:       o.cluster(),
		newTopicsAt:   o.cluster().Version(),
		hashes:        map[string]hashedTopic{},
		resolving:     map[string]bool{},
		expiry:        timer{kind: expiryTimer},
		offsets:       map[string]map[topicPartition]offset{},
		open:          map[int64]*transaction{},
		foreign:       map[string]*foreignGroup{},
		unstable:      map[groupPartition]int{},
		unstableGroup: map[string]int{},
	}
}

// turn is the handling of one event: the shard, the time, and what comes of it.
type turn struct {
	*Shard
	now time.Time
	out coordinator.Result
}

// reply answers a request. Handlers call it once for each token.
func (t *turn) reply(to coordinator.Token, body any) {
	t.out.Replies = append(t.out.Replies, coordinator.Reply{To: to, Body: body})
}

// record remembers something.
func (t *turn) record(r coordinator.Record) { t.out.Records = append(t.out.Records, r) }

// recordGroup remembers the group as it is now.
func (t *turn) recordGroup(g *group) { t.record(groupRecord(t.now, g.id, g.snapshot())) }

// Loaded restores the members of all groups with fresh sessions and starts the
// checks of expired offsets. A group that is larger than allowed, because the
// setting has changed, rebalances. It implements coordinator.LoadedShard.
func (s *Shard) Loaded(now time.Time) coordinator.Result {
	t := turn{Shard: s, now: now}
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id]
		g.restore()
		for _, m := range g.members {
			m.session = timer{kind: sessionTimer, group: g, member: m.id}
			t.extend(m)
		}
		if len(g.members) > s.o.MaxSize {
			t.prepareRebalance(g)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.consumers)) {
		g := s.consumers[id]
		for _, member := range g.ids() {
			m := g.members[member]
			t.armFor(consumerSessionTimer, id, member, t.settings(id).Session)
			if m.state == memberUnrevoked {
				t.armFor(consumerRebalanceTimer, id, member, time.Duration(m.rebalanceMillis)*time.Millisecond).epoch = m.epoch
			}
		}
	}
	s.timers.arm(&s.expiry, now.Add(s.o.OffsetsRetentionCheckInterval))
	return t.out
}

// Deadline returns when the next session, rebalance or check is due, in O(1).
func (s *Shard) Deadline() (time.Time, bool) { return s.timers.next() }

// Handle decides about one event; see the event types for the replies.
func (s *Shard) Handle(now time.Time, e coordinator.Event) coordinator.Result {
	t := s.turn
	*t = turn{Shard: s, now: now}
	switch b := e.Body.(type) {
	case coordinator.Tick:
		t.tick()
	case Join:
		t.join(e.Token, b)
	case Sync:
		t.sync(e.Token, b)
	case Heartbeat:
		t.reply(e.Token, t.heartbeat(b))
	case ConsumerHeartbeat:
		t.reply(e.Token, t.consumerHeartbeat(b))
	case ConsumerDescribe:
		t.reply(e.Token, t.consumerDescribe(b))
	case MetadataChanged:
		t.metadataChanged(b)
	case RegexesResolved:
		t.regexesResolved(b)
	case Leave:
		t.reply(e.Token, t.leave(b))
	case Commit:
		t.reply(e.Token, t.commit(b))
	case TxnCommit:
		t.reply(e.Token, t.txnCommit(b))
	case GuardTxn:
		t.reply(e.Token, t.guardTxn())
	case EndTransaction:
		t.reply(e.Token, t.endTransaction(b))
	case Fetch:
		t.reply(e.Token, t.fetch(b))
	case OffsetDelete:
		t.reply(e.Token, t.offsetDelete(b))
	case List:
		t.reply(e.Token, t.list(b))
	case Describe:
		t.reply(e.Token, t.describe(b))
	case Delete:
		t.reply(e.Token, t.delete(b))
	case TopicDeleted:
		t.reply(e.Token, t.topicDeleted(b))
	case Count:
		t.reply(e.Token, t.count())
	default:
		invariant.That(false, "a group shard knows its events", "body", e.Body)
	}
	return t.out
}

// tick fires the timers that are due, in the order of their deadlines. Those of consumer groups come last, together: the
// records of one would not be true yet for the next.
func (t *turn) tick() {
	var late []*timer
	for {
		due := t.timers.pop(t.now)
		if due == nil && len(late) == 0 {
			return
		}
		if due == nil {
			t.consumerTimersDue(late)
			late = nil
			continue
		}
		switch due.kind {
		case sessionTimer:
			t.sessionExpired(due.group, due.member)
		case initialTimer:
			t.initialDelayOver(due.group)
		case joinTimer:
			t.completeJoin(due.group)
		case syncTimer:
			t.syncExpired(due.group)
		case consumerSessionTimer, consumerRebalanceTimer, consumerJoinTimer, consumerSyncTimer:
			delete(t.named, timerKey{due.kind, due.consumer, due.member})
			late = append(late, due)
		case expiryTimer:
			t.expireOffsets()
			t.timers.arm(&t.expiry, t.now.Add(max(t.o.OffsetsRetentionCheckInterval, time.Millisecond)))
		}
	}
}

// extend starts the session of a member anew.
func (t *turn) extend(m *member) { t.timers.arm(&m.session, t.now.Add(m.sessionTimeout())) }

// Apply makes one record true. Of group types that are not served here it keeps
// what foreignGroup says; records that make no sense are counted and passed
// over, so that one of them does not take the other groups down.
func (s *Shard) Apply(r coordinator.Record) {
	s.applied++
	if r.Control != coordinator.None {
		s.applyMarker(r)
		return
	}
	ok := true
	switch kind := keyType(r.Key); kind {
	case legacyOffsetKey, offsetKeyType:
		ok = s.applyOffset(r)
	case groupKeyType:
		ok = s.applyGroup(r)
	case -1:
		ok = false
	default:
		if isConsumerRecord(kind) {
			ok = s.applyConsumer(r)
		} else if _, foreign := foreignRecords[kind]; foreign {
			ok = s.applyForeign(r.Key, r.Value)
		}
	}
	if !ok {
		s.skipped++
	}
}

// applyGroup makes a GroupMetadata record or its tombstone true.
func (s *Shard) applyGroup(r coordinator.Record) bool {
	id, ok := readGroupKey(r.Key)
	if !ok {
		return false
	}
	if r.Value == nil {
		s.forget(id)
		return true
	}
	kept, ok := readGroup(r.Value)
	if !ok {
		return false
	}
	s.ensure(id).kept = kept
	delete(s.foreign, id)
	delete(s.consumers, id)
	return true
}

// applyOffset makes a commit or its tombstone true.
func (s *Shard) applyOffset(r coordinator.Record) bool {
	id, tp, ok := readOffsetKey(r.Key)
	if !ok {
		return false
	}
	key := groupPartition{id, tp}
	if r.Value == nil {
		s.dropOffset(key)
		s.dropUnstable(key)
		return true
	}
	o, ok := readOffset(r.Value)
	if !ok {
		return false
	}
	o.order = s.applied
	if s.foreign[id] == nil && s.consumers[id] == nil {
		s.ensure(id) // who commits without being a member makes a simple group
	}
	if !r.Transactional {
		s.putOffset(key, o)
		return true
	}
	txn := s.open[r.ProducerID]
	if txn == nil {
		txn = &transaction{offsets: map[groupPartition]offset{}}
		s.open[r.ProducerID] = txn
	}
	txn.epoch = r.ProducerEpoch
	if _, again := txn.offsets[key]; !again {
		s.unstable[key]++
		s.unstableGroup[id]++
	}
	txn.offsets[key] = o
	return true
}

// applyMarker ends a transaction.
func (s *Shard) applyMarker(r coordinator.Record) {
	s.marks.add(r.ProducerID)
	txn := s.open[r.ProducerID]
	if txn == nil {
		return
	}
	delete(s.open, r.ProducerID)
	for key, o := range txn.offsets {
		s.stabilize(key)
		// A plain commit that came later counts, whatever the order of the markers.
		if (r.Control == coordinator.Commit || mutant.On(mutant.AbortedOffsetsCount)) && o.order > s.offsets[key.group][key.topicPartition].order {
			s.putOffset(key, o)
		}
	}
}

// ensure returns the group, made if need be.
func (s *Shard) ensure(id string) *group {
	g := s.groups[id]
	if g == nil {
		g = newGroup(id)
		s.groups[id] = g
	}
	return g
}

// forget removes a group with everything soft about it.
func (s *Shard) forget(id string) {
	g := s.groups[id]
	if g == nil {
		return
	}
	s.timers.stop(&g.joining)
	s.timers.stop(&g.syncing)
	for _, m := range g.members {
		s.timers.stop(&m.session)
	}
	for _, session := range g.pending {
		s.timers.stop(session)
	}
	delete(s.groups, id)
}

// putOffset stores a committed offset.
func (s *Shard) putOffset(key groupPartition, o offset) {
	if s.offsets[key.group] == nil {
		s.offsets[key.group] = map[topicPartition]offset{}
	}
	s.offsets[key.group][key.topicPartition] = o
}

// dropOffset removes a committed offset.
func (s *Shard) dropOffset(key groupPartition) {
	delete(s.offsets[key.group], key.topicPartition)
	if len(s.offsets[key.group]) == 0 {
		delete(s.offsets, key.group)
	}
}

// dropUnstable removes an offset from all open transactions.
func (s *Shard) dropUnstable(key groupPartition) {
	if s.unstable[key] == 0 {
		return
	}
	for _, txn := range s.open {
		if _, ok := txn.offsets[key]; ok {
			delete(txn.offsets, key)
			s.stabilize(key)
		}
	}
}

// stabilize counts one transaction fewer that holds the offset.
func (s *Shard) stabilize(key groupPartition) {
	if s.unstable[key]--; s.unstable[key] == 0 {
		delete(s.unstable, key)
	}
	if s.unstableGroup[key.group]--; s.unstableGroup[key.group] == 0 {
		delete(s.unstableGroup, key.group)
	}
}
