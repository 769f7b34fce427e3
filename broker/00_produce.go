package broker

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// produce answers Produce (0), versions 3-13; 0-2 are advertised and refused
// (KAFKA-18659).
//
// v3 transactional id, v5 LogStartOffset, v7 zstd, v8 RecordErrors, v13 topic
// ids. acks=0 has no answer: an error closes the connection. acks=1 answers when
// the batch is written, acks=all when it is on stable storage (decision D4).
// A batch that cannot be read at all, or is transactional where the request has
// no transactional id, refuses the whole request; everything else its partition.
// Only refusals of single records and unreadable batches have a message. The log
// start offset is told where the log refuses what the batch says, not how big or
// how broken it is.
// A batch that begins its producer's transaction in a partition waits here for the
// transaction's coordinator, and with it what comes after it on the connection:
// the producer's next batch must not overtake it.
// ACL: WRITE on each topic, 29 for its partitions; WRITE on the transactional id, 53.
func (b *Broker) produce(ctx context.Context, c *protocol.Call) protocol.Answer {
	p := b.producePool.Get()
	if err := p.req.Decode(c.Version, c.Body); err != nil {
		b.producePool.Put(p)
		return protocol.Hangup(err)
	}
	p.b, p.call = b, c
	p.run(ctx)
	if p.req.Acks == 0 {
		failed := p.failed
		p.release()
		if failed != nil {
			return protocol.Hangup(failed)
		}
		return protocol.None()
	}
	if len(p.waits) == 0 {
		return protocol.Now(p)
	}
	// Commits complete in order, so the last one is ready when all are.
	return protocol.LaterWhen(p.waits[len(p.waits)-1].commit.Done(), p.wait)
}

// produceState is one request on its way: pooled, since it is the hot path.
type produceState struct {
	b      *Broker
	call   *protocol.Call
	req    protocol.ProduceRequest
	resp   protocol.ProduceResponse
	parts  []protocol.ProduceResponsePartition
	waits  []produceWait
	failed error // the first refusal, for acks=0
	moved  moved // of the topic at hand

	transactional map[batchAt]transactional // the batches that belong to transactions; nil: none
}

// produceWait is a partition whose answer waits for stable storage.
type produceWait struct {
	topic, part int
	commit      *log.Commit
}

// AppendTo encodes the answer and gives the state back to its pool.
func (p *produceState) AppendTo(dst []byte) []byte {
	dst = p.resp.AppendTo(dst)
	p.release()
	return dst
}

func (p *produceState) release() {
	b := p.b
	p.b, p.call, p.failed, p.transactional = nil, nil, nil, nil
	clear(p.waits)
	p.waits = p.waits[:0]
	clear(p.parts)
	p.parts = p.parts[:0]
	clear(p.resp.Topics)
	p.resp.Topics = p.resp.Topics[:0]
	b.producePool.Put(p)
}

func (p *produceState) run(ctx context.Context) {
	p.resp.Version, p.resp.ThrottleMillis, p.resp.NodeEndpoints = p.call.Version, 0, nil
	n := 0
	for i := range p.req.Topics {
		n += len(p.req.Topics[i].Partitions)
	}
	if cap(p.parts) < n {
		p.parts = make([]protocol.ProduceResponsePartition, 0, n)
	}
	im := p.b.image()
	whole := p.wholeRefusal()
	if whole == nil && p.req.TransactionalID != nil {
		whole = p.askTransactions(ctx, im)
	}
	for ti := range p.req.Topics {
		rt := &p.req.Topics[ti]
		if len(rt.Partitions) == 0 {
			continue
		}
		start := len(p.parts)
		topic, refusal := p.topic(im, rt)
		p.moved = moved{}
		for pi := range rt.Partitions {
			p.parts = append(p.parts, refusedPartition(rt.Partitions[pi].Index, 0))
			out := &p.parts[len(p.parts)-1]
			switch {
			case whole != nil:
				p.refuse(out, whole)
				out.ErrorMessage = messageOf(whole)
			case refusal != nil:
				p.refuse(out, refusal)
			default:
				p.append(topic, &rt.Partitions[pi], out, batchAt{ti, pi}, len(p.resp.Topics))
			}
		}
		if topic != nil {
			p.b.metrics.produced(topic.Name, p.moved)
		}
		p.resp.Topics = append(p.resp.Topics, protocol.ProduceResponseTopic{Name: rt.Name, ID: rt.ID, Partitions: p.parts[start:len(p.parts):len(p.parts)]})
	}
}

// wholeRefusal looks at the first batches until one is transactional: what it
// finds wrong is answered for all partitions (RequestUtils.hasTransactionalRecords).
func (p *produceState) wholeRefusal() error {
	for ti := range p.req.Topics {
		parts := p.req.Topics[ti].Partitions
		for pi := range parts {
			h, err := batch.Parse(parts[pi].Records)
			var unreadable *batch.UnreadableError
			switch {
			case err == nil && h.Transactional():
				if id := p.req.TransactionalID; id == nil || !p.b.authorizer.Authorize(p.call, OpWrite, ResourceTransactionalID, *id) {
					return kerr.TransactionalIDAuthorizationFailed
				}
				return nil
			case err != nil && errors.As(err, &unreadable):
				return unreadable
			}
		}
	}
	return nil
}

// topic finds and checks what holds for all partitions of a topic.
func (p *produceState) topic(im *metadata.Image, rt *protocol.ProduceTopic) (*metadata.Topic, error) {
	var t *metadata.Topic
	if p.call.Version >= 13 {
		if t = im.TopicByID(rt.ID); t == nil {
			return nil, kerr.UnknownTopicID
		}
	} else {
		t = im.Topic(rt.Name)
	}
	name := rt.Name
	if t != nil {
		name = t.Name
	}
	switch {
	case !p.b.mayTopic(p.call, OpWrite, name):
		return nil, kerr.TopicAuthorizationFailed
	case t == nil:
		return nil, kerr.UnknownTopicOrPartition
	}
	return t, nil
}

// adminClientID is the client id that Kafka lets write to its internal topics.
const adminClientID = "__admin_client"

func refusedPartition(index int32, code int16) protocol.ProduceResponsePartition {
	return protocol.ProduceResponsePartition{
		Index: index, ErrorCode: code, BaseOffset: -1, LogAppendTimeMillis: -1, LogStartOffset: -1,
		CurrentLeader: protocol.LeaderIDEpoch{ID: -1, Epoch: -1},
	}
}

func (p *produceState) append(t *metadata.Topic, in *protocol.ProducePartition, out *protocol.ProduceResponsePartition, at batchAt, answered int) {
	if err := p.check(t, in); err != nil {
		p.refuse(out, err)
		return
	}
	part := &t.Partitions[in.Index]
	l, err := p.b.parts.get(t, in.Index)
	if err != nil {
		p.b.logStorage("open for produce", err)
		p.refuse(out, err)
		return
	}
	// As many as there are replicas are enough (Partition.effectiveMinIsr).
	if p.req.Acks == -1 && len(part.ISR) < min(l.Config().MinInSyncReplicas, len(part.Replicas)) {
		out.LogStartOffset = l.Offsets().Start
		p.refuse(out, kerr.NotEnoughReplicas)
		return
	}
	size := len(in.Records)
	x := p.transactional[at]
	if x.err != nil {
		p.refuse(out, x.err)
		p.b.metrics.rejected(t.Name, size)
		return
	}
	opts := log.AppendOptions{
		Origin: log.Client, Durable: p.req.Acks == -1 && p.b.durableAcks, LeaderEpoch: part.LeaderEpoch,
		Verified: x.verified, Guard: x.guard, TransactionVersion: x.version,
	}
	if mutant.On(mutant.AckBeforeWrite) && !opts.Verified {
		out.ErrorCode, out.BaseOffset, out.LogStartOffset = 0, l.Offsets().End, l.Offsets().Start
		late := bytes.Clone(in.Records)
		time.AfterFunc(time.Millisecond, func() { _, _ = l.Append(time.Now(), late, opts) })
		return
	}
	done, err := l.Append(p.call.Arrived, in.Records, opts)
	if err != nil {
		if p.refuse(out, err); tellsLogStart(out.ErrorCode) {
			out.LogStartOffset = l.Offsets().Start
		}
		p.b.metrics.rejected(t.Name, size)
		return
	}
	out.BaseOffset, out.LogAppendTimeMillis, out.LogStartOffset = done.First, done.LogAppendTime, done.LogStart
	if !done.Duplicate {
		p.moved.partitions++
		p.moved.records += int(done.Last - done.First + 1)
		p.moved.bytes += size
	}
	if done.Commit != nil {
		p.waits = append(p.waits, produceWait{answered, at.partition, done.Commit})
	}
}

// tellsLogStart tells whether a refusal of the log comes with the log's start:
// not if ReplicaManager.appendToLocalLog names its exception, as it does these.
func tellsLogStart(code int16) bool {
	switch code {
	case kerr.CorruptMessage.Code, kerr.NotLeaderForPartition.Code, kerr.MessageTooLarge.Code, kerr.RecordListTooLarge.Code, kerr.KafkaStorageError.Code:
		return false
	}
	return true
}

// check holds the rules that belong to the request and not to the log, in Kafka's
// order: one batch of version 2, and zstd only from v7 on (KIP-110,
// ProduceRequest.validateRecords), then acks, then who writes to internal topics.
func (p *produceState) check(t *metadata.Topic, in *protocol.ProducePartition) error {
	if in.Index < 0 || int(in.Index) >= len(t.Partitions) {
		return kerr.UnknownTopicOrPartition
	}
	if _, err := batch.Single(in.Records); err != nil {
		return err
	}
	h, err := batch.Parse(in.Records)
	switch {
	case err == nil && p.call.Version < 7 && h.Codec() == batch.Zstd:
		return kerr.UnsupportedCompressionType
	case p.req.Acks < -1 || p.req.Acks > 1:
		return kerr.InvalidRequiredAcks
	case t.Internal && p.call.ClientID != adminClientID:
		return kerr.InvalidTopicException
	}
	return nil // the log says what else is wrong
}

// refuse fills in the answer of a partition that took nothing.
func (p *produceState) refuse(out *protocol.ProduceResponsePartition, err error) {
	out.ErrorCode, out.BaseOffset, out.LogAppendTimeMillis = codeOf(err), -1, -1
	if mutant.On(mutant.OffsetZeroOnError) {
		out.BaseOffset = 0
	}
	if told := (toldError{}); errors.As(err, &told) {
		out.ErrorMessage = &told.sentence
	}
	var records *log.RecordErrors
	if errors.As(err, &records) {
		out.ErrorMessage = ptr(records.Error())
		for _, r := range records.Records {
			out.RecordErrors = append(out.RecordErrors, protocol.RecordError{BatchIndex: r.Index, Message: &r.Message})
		}
	}
	p.b.metrics.errorCode(p.call.Key, out.ErrorCode)
	if p.failed == nil {
		p.failed = err
	}
}

// wait ends when every partition that asked for it is on stable storage, or
// after the request's own timeout, which Kafka answers with REQUEST_TIMED_OUT
// though the records stay.
func (p *produceState) wait(ctx context.Context) protocol.Response {
	p.b.metrics.wait(delayedProduce, 1)
	defer p.b.metrics.wait(delayedProduce, -1)
	var timeout <-chan time.Time
	for i := range p.waits {
		w := &p.waits[i]
		select {
		case <-w.commit.Done():
		default:
			if timeout == nil {
				timer := time.NewTimer(time.Duration(max(p.req.TimeoutMillis, 0)) * time.Millisecond)
				defer timer.Stop()
				timeout = timer.C
			}
			select {
			case <-w.commit.Done():
			case <-timeout:
				p.refuse(&p.resp.Topics[w.topic].Partitions[w.part], kerr.RequestTimedOut)
				timeout = closedTime()
				continue
			case <-ctx.Done():
				p.refuse(&p.resp.Topics[w.topic].Partitions[w.part], kerr.RequestTimedOut)
				continue
			}
		}
		if err := w.commit.Err(); err != nil {
			p.refuse(&p.resp.Topics[w.topic].Partitions[w.part], err)
		}
	}
	return p
}

// closedTime is a timer that has fired and fires for everybody who asks again.
func closedTime() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}
