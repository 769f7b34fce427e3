package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

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
// It waits for MinBytes until MaxWait, and not at all when a partition has an
// error. ACL: READ on each topic (29). A follower's replica id is refused as
// not authorized: nobody replicates from this broker.
func (b *Broker) fetch(_ context.Context, c *protocol.Call) protocol.Answer {
	f := b.fetchPool.Get().(*fetchState)
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
	if f.attempt() || f.req.MaxWaitMillis <= 0 {
		return protocol.Now(f.respond())
	}
	return protocol.Later(f.wait)
}

// fetchState is one request on its way: pooled, since it is the hot path.
type fetchState struct {
	b       *Broker
	call    *protocol.Call
	req     protocol.FetchRequest
	resp    protocol.FetchResponse
	session *fetchSession
	plan    []fetchPlan
	parts   []protocol.FetchResponsePartition
	runs    []protocol.Run
	sent    []topicBytes
}

// fetchPlan is one partition to serve, and what came of it.
type fetchPlan struct {
	key   sessionKey
	ask   protocol.FetchPartition
	topic *metadata.Topic
	l     *log.Log
	chunk log.Chunk
	held  bool // chunk is to be released
	epoch int32
	code  int16
	split protocol.EpochEndOffset // diverging epoch, Epoch -1 if none
}

type topicBytes struct {
	topic string
	bytes int
}

// answer is the response with its end: whoever sends or drops it calls Release once.
func (f *fetchState) answer() protocol.Response {
	f.resp.Release = f.release
	return &f.resp
}

func (f *fetchState) release() {
	f.drop()
	b := f.b
	for _, s := range f.sent {
		b.metrics.fetched(s.topic, s.bytes)
	}
	clear(f.plan)
	clear(f.parts)
	clear(f.runs)
	clear(f.resp.Topics)
	*f = fetchState{req: f.req, plan: f.plan[:0], parts: f.parts[:0], runs: f.runs[:0], sent: f.sent[:0],
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

func (f *fetchState) makePlan() {
	if f.session == nil {
		for i := range f.req.Topics {
			t := &f.req.Topics[i]
			for _, ask := range t.Partitions {
				f.plan = append(f.plan, fetchPlan{key: sessionKey{t.ID, t.Name, ask.Index}, ask: ask})
			}
		}
		return
	}
	f.session.mu.Lock()
	defer f.session.mu.Unlock()
	for e := f.session.order.Front(); e != nil; e = e.Next() {
		sp := e.Value.(*sessionPartition)
		f.plan = append(f.plan, fetchPlan{key: sp.key, ask: sp.ask})
	}
}

// attempt reads every partition once and reports whether the answer should go
// out: enough bytes, an error, or a diverging epoch.
func (f *fetchState) attempt() bool {
	f.drop()
	im := f.b.image()
	left := min(int(f.req.MaxBytes), f.b.fetchMaxBytes)
	got, done := 0, false
	for i := range f.plan {
		p := &f.plan[i]
		p.code, p.split = 0, protocol.EpochEndOffset{Epoch: -1, EndOffset: -1}
		if err := f.find(im, p); err != nil {
			p.code, done = codeOf(err), true
			continue
		}
		if err := f.read(p, left, got == 0); err != nil {
			p.code, done = codeOf(err), true
			continue
		}
		done = done || p.split.Epoch >= 0
		got += p.chunk.Bytes
		left = max(left-p.chunk.Bytes, 0)
	}
	return done || len(f.plan) == 0 || got >= min(int(f.req.MinBytes), int(f.req.MaxBytes), f.b.fetchMaxBytes)
}

// find looks the partition up in the current metadata and checks the client's epoch.
func (f *fetchState) find(im *metadata.Image, p *fetchPlan) error {
	p.topic, p.l = nil, nil
	t := im.Topic(p.key.name)
	if f.call.Version >= 13 {
		if t = im.TopicByID(p.key.id); t == nil {
			return kerr.UnknownTopicID
		}
	}
	name := p.key.name
	if t != nil {
		name = t.Name
	}
	switch {
	case f.req.ReplicaID >= 0 || !f.b.mayTopic(f.call, OpRead, name):
		return kerr.TopicAuthorizationFailed
	case t == nil || p.ask.Index < 0 || int(p.ask.Index) >= len(t.Partitions):
		return kerr.UnknownTopicOrPartition
	}
	p.topic = t
	part := &t.Partitions[p.ask.Index]
	p.epoch = part.LeaderEpoch
	if err := checkLeaderEpoch(p.ask.CurrentLeaderEpoch, part.LeaderEpoch); err != nil {
		return err
	}
	l, err := f.b.parts.get(t, p.ask.Index)
	if err != nil {
		f.b.logStorage("open for fetch", err)
		return err
	}
	p.l = l
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
		epoch, end := p.l.EpochEnd(p.ask.LastFetchedEpoch)
		if epoch < 0 || end < 0 {
			return kerr.OffsetOutOfRange
		}
		if epoch < p.ask.LastFetchedEpoch || end < p.ask.FetchOffset {
			p.split = protocol.EpochEndOffset{Epoch: epoch, EndOffset: end}
			p.chunk.Offsets = p.l.Offsets()
			return nil
		}
	}
	mark := log.High
	if f.req.Isolation == 1 {
		mark = log.Stable
	}
	chunk, err := p.l.Read(p.ask.FetchOffset, min(left, int(p.ask.MaxBytes)), mark, first)
	if err != nil {
		if !errors.Is(err, log.ErrOutOfRange) {
			f.b.logStorage("read "+p.topic.Name, err)
		}
		return err
	}
	p.chunk, p.held = chunk, true
	return nil
}

// wait is the long poll: it asks to be woken by every planned partition, then
// reads again, so that nothing appended in between is missed.
func (f *fetchState) wait(ctx context.Context) protocol.Response {
	f.b.metrics.wait(delayedFetch, 1)
	defer f.b.metrics.wait(delayedFetch, -1)
	wake := make(chan struct{}, 1)
	stops := make([]func(), 0, len(f.plan))
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	for i := range f.plan {
		if l := f.plan[i].l; l != nil {
			stops = append(stops, l.Notify(wake))
		}
	}
	timer := time.NewTimer(time.Until(f.call.Arrived.Add(time.Duration(f.req.MaxWaitMillis) * time.Millisecond)))
	defer timer.Stop()
	for !f.attempt() {
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
			return f.answer()
		}
	}
	f.size()
	for i := range f.plan {
		p := &f.plan[i]
		if f.session != nil && !f.session.tellLocked(p) && incremental {
			continue
		}
		f.add(p)
	}
	return f.answer()
}

// size makes room once, so that the slices handed out below do not move.
func (f *fetchState) size() {
	runs := 0
	for i := range f.plan {
		runs += len(f.plan[i].chunk.Runs)
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
		if p.code == kerr.FencedLeaderEpoch.Code {
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
		if f.req.Isolation == 1 {
			out.Aborted = make([]protocol.AbortedTransaction, 0, len(p.chunk.Aborted))
			for _, a := range p.chunk.Aborted {
				out.Aborted = append(out.Aborted, protocol.AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
			}
		}
		start := len(f.runs)
		for _, r := range p.chunk.Runs {
			run := protocol.Run{Data: r.Data, Off: r.Off, Len: r.Len}
			if r.File != nil {
				run.File = r.File
			}
			f.runs = append(f.runs, run)
		}
		out.Records = protocol.Records{Runs: f.runs[start:len(f.runs):len(f.runs)], Bytes: p.chunk.Bytes}
		if p.chunk.Bytes > 0 {
			f.sent = append(f.sent, topicBytes{p.topic.Name, p.chunk.Bytes})
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

// addEndpoint names this broker as the leader to turn to (KIP-951).
func (f *fetchState) addEndpoint() {
	if len(f.resp.NodeEndpoints) == 0 {
		ep := f.b.endpoint(f.call.Listener)
		f.resp.NodeEndpoints = []protocol.NodeEndpoint{{NodeID: f.b.nodeID, Host: ep.Host, Port: ep.Port, Rack: f.b.rack}}
	}
}

func newFetchPool() *sync.Pool {
	return &sync.Pool{New: func() any { return new(fetchState) }}
}
