package broker

import (
	"container/list"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// Fetch sessions (KIP-227): the broker remembers which partitions a consumer
// reads, so that a request names only what changed and an answer holds only
// what is new.
//
// A request looks only at partitions that are hot: those that the client has asked
// for anew, whose log has news since they were looked at, and those of which there was
// more to tell. All others are cold: there is nothing to read of them, and the client
// was told their marks. A cold partition is watched, so that its log makes it hot. When
// the metadata has changed all are hot. So a request costs what changed, not what there is.

const (
	// minSessionEviction is how long a session is safe from one that wants its
	// place (Kafka: FetchSession.MinIncrementalFetchSessionEvictionMs).
	minSessionEviction = 120 * time.Second
	initialEpoch       = 0  // asks for a new session, and closes the one named
	finalEpoch         = -1 // asks for a full answer without a session, and closes the one named
)

// sessionKey names a partition inside a session, as the client did: by topic id
// (v13+) or by name.
type sessionKey struct {
	id    [16]byte
	name  string
	index int32
}

// sessionPartition is what a session remembers of one partition: what the
// client asked and what it was last told. Guarded by fetchSession.mu, but for hot.
type sessionPartition struct {
	key      sessionKey
	topic    string // the topic's name since it is known: an id keeps it when the topic goes
	ask      protocol.FetchPartition
	highMark int64 // told last; -1 before the first answer
	logStart int64
	place    *list.Element

	hot     atomic.Bool // it is in fetchSession.hot
	planned uint64      // the turn that looks at it
	log     *log.Log    // that is watched, nil: none
	stop    func()      // ends that
}

// unwatch ends the watching of the log.
func (sp *sessionPartition) unwatch() {
	if sp.stop != nil {
		sp.stop()
	}
	sp.log, sp.stop = nil, nil
}

// fetchSession is one consumer's set of partitions in the order in which they
// are served: those that gave data go to the end (KIP-227's fairness).
type fetchSession struct {
	mu       sync.Mutex
	id       int32
	epoch    int32 // the epoch the next request must carry
	usesIDs  bool
	parts    map[sessionKey]*sessionPartition
	order    *list.List
	turn     uint64          // counts requests
	image    *metadata.Image // for which all partitions were looked at
	closed   bool            // nothing is watched any more
	created  time.Time
	lastUsed time.Time // guarded by sessionCache.mu
	cached   *list.Element
	counted  int // partitions, as sessionCache.parts counts them; guarded by sessionCache.mu

	wake  chan struct{} // capacity 1: a partition has become hot
	hotMu sync.Mutex    // nothing else is locked while it is held
	hot   []*sessionPartition
}

// heat makes a partition hot.
func (s *fetchSession) heat(sp *sessionPartition) {
	if sp.hot.CompareAndSwap(false, true) {
		s.hotMu.Lock()
		s.hot = append(s.hot, sp)
		s.hotMu.Unlock()
	}
}

// poke wakes a request of the session that waits.
func (s *fetchSession) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// takeHot hands out the hot partitions, whose logs may heat them again from now on. into is a buffer for the next ones.
func (s *fetchSession) takeHot(into []*sessionPartition) []*sessionPartition {
	s.hotMu.Lock()
	taken := s.hot
	s.hot = into[:0]
	s.hotMu.Unlock()
	for _, sp := range taken {
		sp.hot.Store(false)
	}
	return taken
}

// watch has a log heat its partition. Whoever reads the log reads it after this.
func (s *fetchSession) watch(sp *sessionPartition, l *log.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp.log == l || s.closed || s.parts[sp.key] != sp {
		return
	}
	sp.unwatch()
	sp.log, sp.stop = l, l.Watch(func() {
		s.heat(sp)
		s.poke()
	})
}

// close ends the watching. Who still uses the session goes on without.
func (s *fetchSession) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, sp := range s.parts {
		sp.unwatch()
	}
}

// cools tells whether a partition that a request has looked at is cold now. The caller holds s.mu.
func (s *fetchSession) cools(p *fetchPlan, mark log.Mark) bool {
	if p.refused || p.code != 0 || p.split.Epoch >= 0 || p.sp.log == nil {
		return false
	}
	return p.ask.FetchOffset >= p.chunk.Offsets.At(mark)
}

func nextSessionEpoch(e int32) int32 {
	if e == math.MaxInt32 {
		return 1
	}
	return e + 1
}

// update takes over what an incremental request says. The caller holds s.mu.
func (s *fetchSession) updateLocked(req *protocol.FetchRequest) {
	for i := range req.Topics {
		t := &req.Topics[i]
		for _, p := range t.Partitions {
			key := sessionKey{t.ID, t.Name, p.Index}
			sp := s.parts[key]
			if sp == nil {
				sp = &sessionPartition{key: key, highMark: -1, logStart: -1}
				sp.place = s.order.PushBack(sp)
				s.parts[key] = sp
			}
			sp.ask = p
			s.heat(sp)
		}
	}
	for i := range req.Forgotten {
		t := &req.Forgotten[i]
		for _, index := range t.Partitions {
			key := sessionKey{t.ID, t.Name, index}
			if sp := s.parts[key]; sp != nil {
				sp.unwatch()
				s.order.Remove(sp.place)
				delete(s.parts, key)
			}
		}
	}
}

// addedLocked is how many partitions a request adds. The caller holds s.mu.
func (s *fetchSession) addedLocked(req *protocol.FetchRequest) (n int) {
	for i := range req.Topics {
		t := &req.Topics[i]
		for _, p := range t.Partitions {
			if s.parts[sessionKey{t.ID, t.Name, p.Index}] == nil {
				n++
			}
		}
	}
	return n
}

// sessionCache holds at most slots sessions (max.incremental.fetch.session.cache.slots),
// and at most room partitions in all of them.
type sessionCache struct {
	slots int
	room  int
	newID func() int32

	mu        sync.Mutex
	byID      map[int32]*fetchSession
	recent    *list.List // least recently used first
	evictions int64
	parts     int
}

func newSessionCache(slots, room int, newID func() int32) *sessionCache {
	return &sessionCache{slots: slots, room: room, newID: newID, byID: map[int32]*fetchSession{}, recent: list.New()}
}

// add makes a session if there is a free slot or one that was not used for two
// minutes; otherwise it answers nil and the client goes on with full requests.
func (c *sessionCache) add(req *protocol.FetchRequest, usesIDs bool, now time.Time) *fetchSession {
	if c.slots <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byID) >= c.slots {
		oldest := c.recent.Front().Value.(*fetchSession)
		if now.Sub(oldest.lastUsed) < minSessionEviction {
			return nil
		}
		c.removeLocked(oldest)
		defer oldest.close() // when c.mu is free: it is locked within a session's
		c.evictions++
	}
	if c.parts+req.Named() > c.room {
		return nil
	}
	id := c.newID()
	for id <= 0 || c.byID[id] != nil {
		id = c.newID()
	}
	s := &fetchSession{id: id, epoch: 1, usesIDs: usesIDs, parts: map[sessionKey]*sessionPartition{}, order: list.New(), created: now, lastUsed: now,
		wake: make(chan struct{}, 1)}
	s.updateLocked(req)
	c.byID[id] = s
	s.counted = len(s.parts)
	c.parts += s.counted
	s.cached = c.recent.PushBack(s)
	return s
}

// get finds a session and marks it used.
func (c *sessionCache) get(id int32, now time.Time) *fetchSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.byID[id]
	if s != nil {
		s.lastUsed = now
		c.recent.MoveToBack(s.cached)
	}
	return s
}

func (c *sessionCache) remove(id int32) {
	c.mu.Lock()
	s := c.byID[id]
	if s != nil {
		c.removeLocked(s)
	}
	c.mu.Unlock()
	if s != nil {
		s.close()
	}
}

func (c *sessionCache) removeLocked(s *fetchSession) {
	delete(c.byID, s.id)
	c.recent.Remove(s.cached)
	c.parts -= s.counted
}

// stats are the figures of Kafka's FetchSessionCache metrics.
func (c *sessionCache) stats() (sessions, partitions int, evictions int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byID), c.parts, c.evictions
}

// begin finds or makes the session of a request. A nil session and a nil error
// mean a full request that is answered without one.
// Errors: FETCH_SESSION_ID_NOT_FOUND (also where the session has grown too large), INVALID_FETCH_SESSION_EPOCH,
// FETCH_SESSION_TOPIC_ID_ERROR, all top-level.
func (c *sessionCache) begin(req *protocol.FetchRequest, version int16, now time.Time) (*fetchSession, *kerr.Error) {
	usesIDs := version >= 13
	if version < 7 {
		return nil, nil
	}
	if req.SessionEpoch == initialEpoch || req.SessionEpoch == finalEpoch {
		if req.SessionID != 0 {
			c.remove(req.SessionID)
		}
		if req.SessionEpoch == finalEpoch {
			return nil, nil
		}
		return c.add(req, usesIDs, now), nil
	}
	s := c.get(req.SessionID, now)
	if s == nil {
		return nil, kerr.FetchSessionIDNotFound
	}
	ends, err := c.goOn(s, req, usesIDs)
	if ends {
		c.remove(s.id)
	}
	if ends || err != nil {
		return nil, err
	}
	return s, nil
}

// goOn takes over an incremental request, and tells whether that ends the session: there is no room for what it adds, or
// nothing is left to serve. Then the answer has no session.
func (c *sessionCache) goOn(s *fetchSession, req *protocol.FetchRequest, usesIDs bool) (ends bool, err *kerr.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != req.SessionEpoch {
		return false, kerr.InvalidFetchSessionEpoch
	}
	if s.usesIDs != usesIDs {
		return false, kerr.FetchSessionTopicIDError
	}
	before := len(s.parts)
	if c.full(s.addedLocked(req)) {
		return true, kerr.FetchSessionIDNotFound
	}
	s.updateLocked(req)
	c.resize(s, len(s.parts)-before)
	if len(s.parts) == 0 {
		return true, nil
	}
	s.epoch = nextSessionEpoch(s.epoch)
	return false, nil
}

// full tells whether there is no room for more partitions.
func (c *sessionCache) full(more int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return more > 0 && c.parts+more > c.room
}

func (c *sessionCache) resize(s *fetchSession, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[s.id] == s {
		c.parts += by
		s.counted += by
	}
}
