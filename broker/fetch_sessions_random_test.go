package broker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
)

// sessionReader is a consumer with a fetch session that names only what has changed, by raw requests.
type sessionReader struct {
	h         *harness
	rnd       *rand.Rand
	c         *rawConn
	topic     string
	isolation int8
	id, epoch int32
	next      map[int32]int64    // of the partitions of the session
	changed   map[int32]bool     // to be named
	forgotten []int32            // likewise
	told      map[int32][2]int64 // high watermark and log start, as they were told last

	sequences map[int32]int32 // of transactions
	open      map[int32]bool
}

func (r *sessionReader) log(p int32) *log.Log {
	r.h.t.Helper()
	l, err := r.h.b.parts.get(r.h.b.image().Topic(r.topic), p)
	if err != nil {
		r.h.t.Fatal(err)
	}
	return l
}

// write appends some records to a partition, now and then as a transaction that stays open, or ends one.
func (r *sessionReader) write(p int32) {
	r.h.t.Helper()
	l, now, o := r.log(p), time.Now(), batch.Plain()
	opts := log.AppendOptions{Origin: log.Client}
	id := 1000 + int64(p)
	switch {
	case r.open[p] && r.rnd.IntN(3) == 0:
		kind := batch.ControlCommit
		if r.rnd.IntN(2) == 0 {
			kind = batch.ControlAbort
		}
		raw := batch.AppendMarker(nil, id, 0, kind, 0, now.UnixMilli())
		if _, err := l.Append(now, raw, log.AppendOptions{Origin: log.Coordinator}); err != nil {
			r.h.t.Fatal(err)
		}
		r.open[p] = false
		return
	case r.open[p] || r.rnd.IntN(4) == 0:
		o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = id, 0, r.sequences[p], true
		opts.Verified = true
		r.open[p] = true
	}
	messages := make([]batch.Message, 1+r.rnd.IntN(4))
	for i := range messages {
		messages[i] = batch.Message{Timestamp: now.UnixMilli(), Value: make([]byte, 1+r.rnd.IntN(300))}
	}
	if o.Transactional {
		r.sequences[p] += int32(len(messages))
	}
	if _, err := l.Append(now, batch.Append(nil, o, messages), opts); err != nil {
		r.h.t.Fatal(err)
	}
}

func (r *sessionReader) begin(partitions int32) {
	r.id, r.epoch = 0, 0
	r.next, r.changed, r.told = map[int32]int64{}, map[int32]bool{}, map[int32][2]int64{}
	for p := range partitions {
		r.next[p], r.changed[p] = 0, true
	}
}

// fetch sends one request and takes in the answer. It tells how many bytes came, and how many partitions were named.
func (r *sessionReader) fetch(wait time.Duration) (bytes, named int) {
	r.h.t.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MinBytes, req.MaxBytes, req.IsolationLevel = -1, 1, int32(200+r.rnd.IntN(4000)), r.isolation
	req.MaxWaitMillis, req.SessionID, req.SessionEpoch = int32(wait.Milliseconds()), r.id, r.epoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic = r.topic
	for p := range r.changed {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = p, r.next[p], int32(100+r.rnd.IntN(2000)), -1
		t.Partitions = append(t.Partitions, rp)
	}
	if len(t.Partitions) > 0 {
		req.Topics = append(req.Topics, t)
	}
	if len(r.forgotten) > 0 {
		req.ForgottenTopics = append(req.ForgottenTopics, kmsg.FetchRequestForgottenTopic{Topic: r.topic, Partitions: r.forgotten})
	}
	got, err := r.c.call(req, 12)
	if err != nil {
		r.h.t.Fatal(err)
	}
	resp := got.(*kmsg.FetchResponse)
	if resp.ErrorCode != 0 || resp.SessionID == 0 || r.id != 0 && resp.SessionID != r.id {
		r.h.t.Fatalf("code %d, session %d in session %d", resp.ErrorCode, resp.SessionID, r.id)
	}
	r.id, r.epoch = resp.SessionID, r.epoch+1
	clear(r.changed)
	r.forgotten = nil
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			named++
			bytes += r.take(&resp.Topics[i].Partitions[j])
		}
	}
	return bytes, named
}

// take takes in what is told of one partition.
func (r *sessionReader) take(p *kmsg.FetchResponseTopicPartition) int {
	r.h.t.Helper()
	if _, ok := r.next[p.Partition]; !ok {
		r.h.t.Fatalf("partition %d was forgotten and is named", p.Partition)
	}
	switch {
	case p.ErrorCode == kerr.OffsetOutOfRange.Code && r.next[p.Partition] < r.log(p.Partition).Offsets().Start:
		r.next[p.Partition], r.changed[p.Partition] = r.log(p.Partition).Offsets().Start, true
		return 0
	case p.ErrorCode != 0:
		r.h.t.Fatalf("partition %d: %v", p.Partition, kerr.ErrorForCode(p.ErrorCode))
	}
	r.told[p.Partition] = [2]int64{p.HighWatermark, p.LogStartOffset}
	for b := p.RecordBatches; len(b) > 0; {
		h, err := batch.Parse(b)
		if err != nil {
			r.h.t.Fatal(err)
		}
		if next := r.next[p.Partition]; h.BaseOffset > next || h.LastOffset() < next {
			r.h.t.Fatalf("partition %d: a batch from %d to %d, the reader is at %d", p.Partition, h.BaseOffset, h.LastOffset(), next)
		}
		r.next[p.Partition], r.changed[p.Partition] = h.LastOffset()+1, true
		b = b[h.Size():]
	}
	return len(p.RecordBatches)
}

// drain fetches until there is nothing more, and compares: all was read, all marks were told, and then nothing is named.
func (r *sessionReader) drain() {
	r.h.t.Helper()
	for quiet := 0; quiet < 2; {
		if n, _ := r.fetch(0); n > 0 || len(r.changed) > 0 {
			quiet = 0
		} else {
			quiet++
		}
	}
	mark := log.High
	if r.isolation == readCommitted {
		mark = log.Stable
	}
	for p, next := range r.next {
		o := r.log(p).Offsets()
		if next < o.At(mark) || r.told[p] != [2]int64{o.High, o.Start} {
			r.h.t.Fatalf("partition %d: read to %d, told %v, it has %+v", p, next, r.told[p], o)
		}
	}
	if n, named := r.fetch(0); n+named > 0 {
		r.h.t.Fatalf("there is nothing new, and %d partitions are named with %d bytes", named, n)
	}
}

// waits has a request wait while something is written half a second later: it is answered then if there is anything to read.
func (r *sessionReader) waits(p int32) {
	r.h.t.Helper()
	before := r.log(p).Offsets()
	began := time.Now()
	written := make(chan struct{})
	go func() {
		defer close(written)
		time.Sleep(500 * time.Millisecond)
		r.write(p)
	}()
	n, _ := r.fetch(5 * time.Second)
	took := time.Since(began)
	<-written
	after := r.log(p).Offsets()
	mark := log.High
	if r.isolation == readCommitted {
		mark = log.Stable
	}
	_, reads := r.next[p]
	if readable := reads && after.At(mark) > before.At(mark); readable != (n > 0) || readable && took > time.Second {
		r.h.t.Fatalf("partition %d went from %+v to %+v while the request waited: %d bytes after %v", p, before, after, n, took)
	}
}

// A consumer whose session names only what changed reads all that is written, once and in order, and is told of all marks,
// whatever else happens to topics and sessions.
func TestRandomFetchSessions(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(h *harness) {
				const partitions = 6
				cl := h.client()
				defer cl.Close()
				admin := kadm.NewClient(cl)
				if _, err := admin.CreateTopic(h.t.Context(), partitions, 1, nil, "t"); err != nil {
					h.t.Fatal(err)
				}
				r := &sessionReader{
					h: h, rnd: rand.New(rand.NewPCG(seed, 1)), c: h.raw(), topic: "t", isolation: int8(seed % 2), sequences: map[int32]int32{}, open: map[int32]bool{},
				}
				r.begin(partitions)
				for step := range 300 {
					p := int32(r.rnd.IntN(partitions))
					switch what := r.rnd.IntN(100); {
					case what < 40:
						r.write(p)
					case what < 70:
						r.fetch(0)
					case what < 80:
						r.drain()
						r.waits(p)
					case what < 85:
						if _, err := r.log(p).DeleteBefore(r.rnd.Int64N(r.log(p).Offsets().High + 1)); err != nil {
							h.t.Fatal(err)
						}
					case what < 90 && len(r.next) > 1 && r.id != 0:
						if _, ok := r.next[p]; ok {
							delete(r.next, p)
							delete(r.changed, p)
							delete(r.told, p)
							r.forgotten = append(r.forgotten, p)
							r.fetch(0)
						}
					case what < 96:
						if _, ok := r.next[p]; !ok {
							r.next[p], r.changed[p] = r.log(p).Offsets().Start, true
						}
					case what < 98: // other metadata
						if _, err := admin.CreateTopic(h.t.Context(), 1, 1, nil, fmt.Sprint("other-", step)); err != nil {
							h.t.Fatal(err)
						}
					default:
						r.begin(partitions)
					}
				}
				r.drain()
			})
		})
	}
}

// What a session reads goes away and comes again under its name: its reader hears of both.
func TestFetchSessionOfTopicThatGoes(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		admin := kadm.NewClient(cl)
		if _, err := admin.CreateTopic(h.t.Context(), 2, 1, nil, "t"); err != nil {
			h.t.Fatal(err)
		}
		r := &sessionReader{h: h, rnd: rand.New(rand.NewPCG(1, 1)), c: h.raw(), topic: "t", sequences: map[int32]int32{}, open: map[int32]bool{}}
		r.begin(2)
		r.write(0)
		r.drain()
		codes := func(wait time.Duration) (all []int16) {
			req := kmsg.NewPtrFetchRequest()
			req.ReplicaID, req.MinBytes, req.MaxBytes, req.MaxWaitMillis, req.SessionID, req.SessionEpoch = -1, 1, 1000, int32(wait.Milliseconds()), r.id, r.epoch
			got, err := r.c.call(req, 12)
			if err != nil {
				h.t.Fatal(err)
			}
			r.epoch++
			for _, rt := range got.(*kmsg.FetchResponse).Topics {
				for _, rp := range rt.Partitions {
					all = append(all, rp.ErrorCode)
				}
			}
			return all
		}
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			if _, err := admin.DeleteTopic(h.t.Context(), "t"); err != nil {
				h.t.Error(err)
			}
		}()
		if got := codes(time.Minute); len(got) == 0 || got[0] != kerr.UnknownTopicOrPartition.Code || time.Since(began) > 2*time.Second {
			h.t.Fatalf("while its topic goes: codes %v after %v", got, time.Since(began))
		}
		for range 2 { // errors are repeated
			if got := codes(0); len(got) != 2 || got[0] != kerr.UnknownTopicOrPartition.Code {
				h.t.Fatalf("without the topic: codes %v", got)
			}
		}
		if _, err := admin.CreateTopic(h.t.Context(), 2, 1, nil, "t"); err != nil {
			h.t.Fatal(err)
		}
		if got := codes(0); len(got) != 2 || got[0]+got[1] != kerr.OffsetOutOfRange.Code { // partition 0 was read to offset 1 and more
			h.t.Errorf("with the new topic: codes %v", got)
		}
		if len(h.b.sessions.byID) != 1 {
			h.t.Errorf("%d sessions", len(h.b.sessions.byID))
		}
	})
}
