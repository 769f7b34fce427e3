package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// fetch answers Fetch (1), versions 4-18.
//
// v4 isolation level, v5 log start offset, v7 sessions (KIP-227), v9 leader
// epochs (KIP-320), v11 racks (no preferred replica on one node), v12 diverging
// epochs (KIP-595), v13 topic ids, v15 replica state, v16 node endpoints,
// v17 directory ids, v18 follower high watermarks (of no use to one node).
// A partition that does not exist or is not authorized when the request comes is
// refused: it stands behind the others in the answer and is nothing to wait for.
// The others wait for MinBytes until MaxWait, and not at all when one has an error.
// A topic id means the topic whose name it had when it was first asked for. A
// partition named twice is served once, as it was asked for last. An unknown
// isolation level fails as a whole with UNKNOWN_SERVER_ERROR, as does a negative
// limit of bytes for its partition. Whole batches are sent, where Kafka cuts the
// last one off at the limit. ACL: READ on each topic (29). A follower's replica id
// is refused as not authorized: nobody replicates from this broker.
func (b *Broker) fetch(_ context.Context, c *protocol.Call) protocol.Answer {
	f := b.fetchPool.Get()
	if err := f.req.Decode(c.Version, c.Body); err != nil {
		b.fetchPool.Put(f)
		return protocol.Hangup(err)
	}
	f.b, f.call = b, c
	session, refusal := b.sessions.begin(&f.req, c.Version, c.Arrived)
	if refusal != nil {
		b.metrics.errorCode(c.Key, refusal.Code)
		f.resp = protocol.FetchResponse{Version: c.Version, ErrorCode: refusal.Code}
		return protocol.Now(f.answer())
	}
	f.session = session
	f.makePlan()
	if f.req.Isolation != readUncommitted && f.req.Isolation != readCommitted && f.asked > 0 {
		return protocol.Now(f.fail(kerr.UnknownServerError.Code))
	}
	if f.attempt() || f.req.MaxWaitMillis <= 0 {
		return protocol.Now(f.respond())
	}
	if f.req.Named() > manyNamed {
		f.req.MaxWaitMillis = min(f.req.MaxWaitMillis, manyNamedWait)
	}
	return protocol.Later(f.wait)
}

// A request that names very many partitions holds much memory while it waits, so it is answered early. Clients name them
// once, and have a session afterwards.
const (
	manyNamed     = 1000
	manyNamedWait = 1000 // milliseconds
)

// fetchState is one request on its way: pooled, since it is the hot path.
type fetchState struct {
	b       *Broker
	call    *protocol.Call
	req     protocol.FetchRequest
	resp    protocol.FetchResponse
	session *fetchSession
	turn    uint64              // of the session, 0: what the plan took of it was given back
	hot     []*sessionPartition // a buffer
	plan    []fetchPlan         // of a session only what is hot
	places  map[sessionKey]int  // in plan, of a request without a session
	asked   int                 // partitions that are not refused, of a session the cold ones too
	parts   []protocol.FetchResponsePartition
	runs    []protocol.Run
	sent    []topicMoved
}

// fetchPlan is one partition to serve, and what came of it.
type fetchPlan struct {
	sp    *sessionPartition // nil without a session
	key   sessionKey
	name  string // the topic's, "" for an id that is not known
	ask   protocol.FetchPartition
	topic *metadata.Topic
	l     *log.Log
	chunk log.Chunk
	held  bool // chunk is to be released
	epoch int32
	code  int16
	split protocol.EpochEndOffset // diverging epoch, Epoch -1 if none

	refused bool // with code, before anything was read
}

const (
	readUncommitted = 0
	readCommitted   = 1
)

// currentLeaderFrom is the version from which a fenced client is told who leads
// (KIP-951), though the field is older.
const currentLeaderFrom = 16

type topicMoved struct {
	topic string
	moved
}

// answer is the response with its end: whoever sends or drops it calls Release once.
func (f *fetchState) answer() protocol.Response {
	f.resp.Release = f.release
	return &f.resp
}

func (f *fetchState) release() {
	f.drop()
	f.giveBack(nil)
	b := f.b
	for _, s := range f.sent {
		b.metrics.fetched(s.topic, s.moved)
	}
	clear(f.plan)
	clear(f.parts)
	clear(f.runs)
	clear(f.resp.Topics)
	clear(f.places)
	clear(f.hot)
	*f = fetchState{req: f.req, hot: f.hot[:0], plan: f.plan[:0], places: f.places, parts: f.parts[:0], runs: f.runs[:0], sent: f.sent[:0],
		resp: protocol.FetchResponse{Topics: f.resp.Topics[:0]}}
	b.fetchPool.Put(f)
}

// drop gives back what the last attempt read.
func (f *fetchState) drop() {
	for i := range f.plan {
		if p := &f.plan[i]; p.held {
			p.chunk.Release()
			p.chunk, p.held = log.Chunk{}, false
		}
	}
}

// makePlan lists what is to be served, and refuses what cannot be.
func (f *fetchState) makePlan() {
	im := f.b.image()
	if f.session == nil {
		f.planRequest(im)
		f.asked = len(f.plan)
		f.refuse(im, 0)
		return
	}
	s := f.session
	s.mu.Lock()
	s.turn++
	f.turn, f.asked = s.turn, len(s.parts)
	if s.image != im {
		for e := s.order.Front(); e != nil; e = e.Next() {
			s.heat(e.Value.(*sessionPartition))
		}
		s.image = im
	}
	s.mu.Unlock()
	f.planHot(im)
}

// planHot adds what has become hot in the session.
func (f *fetchState) planHot(im *metadata.Image) {
	s, from := f.session, len(f.plan)
	s.mu.Lock()
	f.hot = s.takeHot(f.hot)
	for _, sp := range f.hot {
		if s.parts[sp.key] != sp || sp.planned == f.turn {
			continue // forgotten, or it is looked at in any case
		}
		sp.planned = f.turn
		if sp.topic == "" {
			sp.topic = f.topicName(im, sp.key)
		}
		f.plan = append(f.plan, fetchPlan{sp: sp, key: sp.key, name: sp.topic, ask: sp.ask})
	}
	s.mu.Unlock()
	f.refuse(im, from)
}

// refuse looks which partitions of the plan, from an index on, are not served at all.
func (f *fetchState) refuse(im *metadata.Image, from int) {
	for i := from; i < len(f.plan); i++ {
		p := &f.plan[i]
		p.split = noSplit()
		if err := f.refusal(im, p); err != nil {
			p.code, p.refused = err.Code, true
			f.asked--
		}
	}
}

// giveBack has the session's partitions of the plan looked at again, but for those that cool. Those that gave data come last.
func (f *fetchState) giveBack(cools func(p *fetchPlan) bool) {
	if f.session == nil || f.turn == 0 {
		return
	}
	f.turn = 0
	for _, data := range []bool{false, true} {
		for i := range f.plan {
			if p := &f.plan[i]; (p.chunk.Bytes > 0) == data && (cools == nil || !cools(p)) {
				f.session.heat(p.sp)
			}
		}
	}
}

func (f *fetchState) planRequest(im *metadata.Image) {
	if f.places == nil {
		f.places = map[sessionKey]int{}
	}
	for i := range f.req.Topics {
		t := &f.req.Topics[i]
		for _, ask := range t.Partitions {
			key := sessionKey{t.ID, t.Name, ask.Index}
			if at, ok := f.places[key]; ok {
				f.plan[at].ask = ask
				continue
			}
			f.places[key] = len(f.plan)
			f.plan = append(f.plan, fetchPlan{key: key, name: f.topicName(im, key), ask: ask})
		}
	}
}

// topicName is the name of the topic that a key means, "" for an unknown id.
func (f *fetchState) topicName(im *metadata.Image, key sessionKey) string {
	if f.call.Version < 13 {
		return key.name
	}
	if t := im.TopicByID(key.id); t != nil {
		return t.Name
	}
	return ""
}

func noSplit() protocol.EpochEndOffset { return protocol.EpochEndOffset{Epoch: -1, EndOffset: -1} }

// refusal is why a partition is not served at all, nil if it is.
func (f *fetchState) refusal(im *metadata.Image, p *fetchPlan) *kerr.Error {
	switch {
	case p.name == "" && f.call.Version >= 13:
		return kerr.UnknownTopicID
	case f.req.ReplicaID >= 0 || !f.b.mayTopic(f.call, OpRead, p.name):
		return kerr.TopicAuthorizationFailed
	}
	if t := im.Topic(p.name); t == nil || p.ask.Index < 0 || int(p.ask.Index) >= len(t.Partitions) {
		return kerr.UnknownTopicOrPartition
	}
	return nil
}

// fail is the answer to a request that Kafka's handler throws at: the code for the
// whole, and up to v12 for each partition.
func (f *fetchState) fail(code int16) protocol.Response {
	f.giveBack(nil)
	f.session, f.plan = nil, f.plan[:0]
	if f.call.Version < 13 {
		clear(f.places)
		f.planRequest(f.b.image())
	}
	for i := range f.plan {
		f.plan[i].code, f.plan[i].refused, f.plan[i].split = code, true, noSplit()
	}
	resp := f.respond()
	f.resp.ErrorCode, f.resp.SessionID = code, f.req.SessionID
	return resp
}

// attempt reads every partition that is not refused once and reports whether the
// answer should go out: enough bytes, an error, or a diverging epoch.
func (f *fetchState) attempt() bool {
	f.drop()
	im := f.b.image()
	if f.session != nil {
		f.planHot(im)
	}
	left := min(int(f.req.MaxBytes), f.b.fetchMaxBytes)
	got, done := 0, false
	for i := range f.plan {
		p := &f.plan[i]
		if p.refused {
			continue
		}
		p.split = noSplit()
		err := f.find(im, p)
		if err == nil {
			err = f.read(p, left, got == 0)
		}
		p.code = codeOf(err)
		done = done || err != nil || p.split.Epoch >= 0
		got += p.chunk.Bytes
		left = max(left-p.chunk.Bytes, 0)
	}
	return done || f.asked == 0 || got >= min(int(f.req.MinBytes), int(f.req.MaxBytes), f.b.fetchMaxBytes)
}

// find looks the partition up in the current metadata and checks the client's epoch.
func (f *fetchState) find(im *metadata.Image, p *fetchPlan) error {
	p.topic, p.l = nil, nil
	t := im.Topic(p.name)
	switch {
	case t == nil || int(p.ask.Index) >= len(t.Partitions): // gone meanwhile
		return kerr.UnknownTopicOrPartition
	case f.call.Version >= 13 && t.ID != p.key.id:
		return kerr.InconsistentTopicID
	}
	p.topic = t
	part := &t.Partitions[p.ask.Index]
	p.epoch = part.LeaderEpoch
	if p.ask.CurrentLeaderEpoch >= 0 { // here any negative number asks for no check
		if err := checkLeaderEpoch(p.ask.CurrentLeaderEpoch, part.LeaderEpoch); err != nil {
			return err
		}
	}
	l, err := f.b.parts.get(t, p.ask.Index)
	if err != nil {
		f.b.logStorage("open for fetch", err)
		return err
	}
	if p.l = l; p.sp != nil {
		f.session.watch(p.sp, l)
	}
	return nil
}

// checkLeaderEpoch is KIP-320's fence: -1 asks for no check.
func checkLeaderEpoch(asked, current int32) error {
	switch {
	case asked == -1 || asked == current:
		return nil
	case asked < current:
		return kerr.FencedLeaderEpoch
	}
	return kerr.UnknownLeaderEpoch
}

func (f *fetchState) read(p *fetchPlan, left int, first bool) error {
	if p.ask.LastFetchedEpoch >= 0 {
		epoch, end := epochEnd(p.l, p.epoch, p.ask.LastFetchedEpoch)
		if epoch < 0 || end < 0 || p.ask.FetchOffset < p.l.Offsets().Start {
			return kerr.OffsetOutOfRange
		}
		if epoch < p.ask.LastFetchedEpoch || end < p.ask.FetchOffset {
			p.split = protocol.EpochEndOffset{Epoch: epoch, EndOffset: end}
			p.chunk.Offsets = p.l.Offsets()
			return nil
		}
	}
	mark := f.mark()
	limit := min(left, int(p.ask.MaxBytes))
	chunk, err := p.l.Read(p.ask.FetchOffset, max(limit, 0), mark, first)
	if err != nil {
		if !errors.Is(err, log.ErrOutOfRange) {
			f.b.logStorage("read "+p.topic.Name, err)
		}
		return err
	}
	p.chunk, p.held = chunk, true
	if limit < 0 && p.ask.FetchOffset < chunk.Offsets.At(mark) {
		p.chunk.Release()
		p.chunk, p.held = log.Chunk{}, false
		return kerr.UnknownServerError
	}
	return nil
}

// mark is up to where the client may read.
func (f *fetchState) mark() log.Mark {
	if f.req.Isolation == readCommitted {
		return log.Stable
	}
	return log.High
}

// wait is the long poll: it asks to be woken by every planned partition, then
// reads again, so that nothing appended in between is missed. A session's are watched already.
func (f *fetchState) wait(ctx context.Context) protocol.Response {
	f.b.metrics.wait(delayedFetch, 1)
	defer f.b.metrics.wait(delayedFetch, -1)
	var wake chan struct{}
	if s := f.session; s != nil {
		wake = s.wake
		defer s.poke() // another request of the session may wait: this one has taken its wake-up
	} else {
		wake = make(chan struct{}, 1)
		for i := range f.plan {
			if l := f.plan[i].l; l != nil {
				defer l.Notify(wake)()
			}
		}
	}
	timer := time.NewTimer(time.Until(f.call.Arrived.Add(time.Duration(f.req.MaxWaitMillis) * time.Millisecond)))
	defer timer.Stop()
	for !f.attempt() && !f.stale() {
		select {
		case <-wake:
		case <-timer.C:
			return f.respond()
		case <-ctx.Done():
			return f.respond()
		}
	}
	return f.respond()
}

// stale tells whether the session has gone on without this request.
func (f *fetchState) stale() bool {
	s := f.session
	if s == nil || f.req.SessionEpoch <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch != nextSessionEpoch(f.req.SessionEpoch)
}

// respond makes the answer from what the last attempt found.
func (f *fetchState) respond() protocol.Response {
	f.resp = protocol.FetchResponse{Version: f.call.Version, Topics: f.resp.Topics[:0]}
	incremental := false
	if s := f.session; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		f.resp.SessionID = s.id
		incremental = f.req.SessionEpoch > 0
		if incremental && s.epoch != nextSessionEpoch(f.req.SessionEpoch) {
			f.resp.ErrorCode = kerr.InvalidFetchSessionEpoch.Code
			return f.answer() // with its end the plan is given back
		}
	}
	f.size()
	for _, refused := range []bool{false, true} {
		for i := range f.plan {
			p := &f.plan[i]
			if p.refused != refused || f.session != nil && !f.session.tellLocked(p) && incremental {
				continue
			}
			f.add(p)
		}
	}
	f.giveBack(func(p *fetchPlan) bool { return f.session.cools(p, f.mark()) })
	return f.answer()
}

// size makes room once, so that the slices handed out below do not move.
func (f *fetchState) size() {
	runs := 0
	for i := range f.plan {
		runs += len(f.plan[i].chunk.Runs())
	}
	if cap(f.parts) < len(f.plan) {
		f.parts = make([]protocol.FetchResponsePartition, 0, len(f.plan))
	}
	if cap(f.runs) < runs {
		f.runs = make([]protocol.Run, 0, runs)
	}
}

// tellLocked decides whether an incremental answer names the partition, and
// remembers what the client is told. The caller holds s.mu.
func (s *fetchSession) tellLocked(p *fetchPlan) bool {
	sp := s.parts[p.key]
	if sp == nil {
		return true // forgotten meanwhile by a later request; the client ignores it
	}
	high, start := p.chunk.Offsets.High, p.chunk.Offsets.Start
	if p.code != 0 {
		high, start = -1, -1
	}
	tell := p.chunk.Bytes > 0 || p.code != 0 || p.split.Epoch >= 0 || sp.highMark != high || sp.logStart != start
	if mutant.On(mutant.SessionTellsTooFew) {
		tell = p.chunk.Bytes > 0 || p.code != 0
	}
	sp.highMark, sp.logStart = high, start
	if p.chunk.Bytes > 0 {
		s.order.MoveToBack(sp.place)
	}
	return tell
}

func (f *fetchState) add(p *fetchPlan) {
	out := protocol.FetchResponsePartition{
		Index: p.ask.Index, ErrorCode: p.code, HighWatermark: -1, LastStableOffset: -1, LogStartOffset: -1,
		DivergingEpoch: p.split, CurrentLeader: protocol.LeaderIDEpoch{ID: -1, Epoch: -1}, PreferredReadReplica: -1,
	}
	if p.code != 0 {
		if p.code == kerr.KafkaStorageError.Code && f.call.Version <= 5 {
			out.ErrorCode = kerr.NotLeaderForPartition.Code
		}
		if p.refused {
			out.Aborted = []protocol.AbortedTransaction{} // empty, where others have null
		}
		if p.code == kerr.FencedLeaderEpoch.Code && f.call.Version >= currentLeaderFrom {
			out.CurrentLeader = protocol.LeaderIDEpoch{ID: f.b.nodeID, Epoch: p.epoch}
			f.addEndpoint()
		}
		f.b.metrics.errorCode(f.call.Key, out.ErrorCode)
		if p.topic != nil {
			f.b.metrics.fetchFailed(p.topic.Name)
		}
	} else {
		o := p.chunk.Offsets
		out.HighWatermark, out.LastStableOffset, out.LogStartOffset = o.High, o.Stable, o.Start
		if f.req.Isolation == readCommitted {
			out.Aborted = make([]protocol.AbortedTransaction, 0, len(p.chunk.Aborted))
			for _, a := range p.chunk.Aborted {
				out.Aborted = append(out.Aborted, protocol.AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
			}
		}
		start := len(f.runs)
		for _, r := range p.chunk.Runs() {
			run := protocol.Run{Data: r.Data, Off: r.Off, Len: r.Len}
			if r.File != nil {
				run.File = r.File
			}
			f.runs = append(f.runs, run)
		}
		out.Records = protocol.Records{Runs: f.runs[start:len(f.runs):len(f.runs)], Bytes: p.chunk.Bytes}
		if p.chunk.Bytes > 0 {
			f.count(p.topic.Name, p.chunk.Bytes)
		}
	}
	f.parts = append(f.parts, out)
	n := len(f.parts)
	if last := len(f.resp.Topics) - 1; last >= 0 && f.resp.Topics[last].Name == p.key.name && f.resp.Topics[last].ID == p.key.id {
		t := &f.resp.Topics[last]
		t.Partitions = f.parts[n-1-len(t.Partitions) : n : n]
		return
	}
	f.resp.Topics = append(f.resp.Topics, protocol.FetchResponseTopic{Name: p.key.name, ID: p.key.id, Partitions: f.parts[n-1 : n : n]})
}

// count notes what is sent of a topic, for the metrics.
func (f *fetchState) count(topic string, bytes int) {
	if last := len(f.sent) - 1; last < 0 || f.sent[last].topic != topic {
		f.sent = append(f.sent, topicMoved{topic: topic})
	}
	n := &f.sent[len(f.sent)-1]
	n.partitions++
	n.bytes += bytes
}

// addEndpoint names this broker as the leader to turn to (KIP-951).
func (f *fetchState) addEndpoint() {
	if len(f.resp.NodeEndpoints) == 0 {
		ep := f.b.endpoint(f.call.Listener)
		f.resp.NodeEndpoints = []protocol.NodeEndpoint{{NodeID: f.b.nodeID, Host: ep.Host, Port: ep.Port, Rack: f.b.rack}}
	}
}
