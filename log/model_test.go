package log

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// player makes random calls on one log and compares each answer with the ledger.
type player struct {
	*rig
	rng  *rand.Rand
	next map[int64]int32 // next sequence by producer id
	open map[int64]bool  // transactions
	sent map[int64][]byte
}

// Random appends, transactions, duplicates, reads, deletions, restarts and kills
// give what a plain list of batches gives.
func TestModel(t *testing.T) {
	steps := 1500
	if testing.Short() {
		steps = 300
	}
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			p := &player{rig: newRig(t, vfs.NewCrash()), rng: rand.New(rand.NewPCG(seed, 0)), next: map[int64]int32{}, open: map[int64]bool{}, sent: map[int64][]byte{}}
			defer func() {
				if err := p.s.Close(); err != nil {
					t.Error(err)
				}
			}()
			for i := range steps {
				p.step()
				if t.Failed() {
					t.Fatalf("seed %d, step %d", seed, i)
				}
			}
		})
	}
}

func (p *player) step() {
	switch n := p.rng.IntN(100); {
	case n < 30:
		p.plain()
	case n < 50:
		p.idempotent()
	case n < 58:
		p.transactional()
	case n < 63:
		p.marker()
	case n < 68:
		p.again()
	case n < 90:
		p.read()
	case n < 94:
		time.Sleep(time.Duration(p.rng.IntN(90)) * time.Second)
	case n < 96:
		p.delete()
	case n < 98:
		p.reopen()
		p.compare()
	default:
		p.kill()
		p.compare()
	}
}

func (p *player) send(raw []byte, o AppendOptions) {
	o.LeaderEpoch, o.Durable = 1, p.rng.IntN(3) == 0
	if _, err := p.append("t", raw, o); err != nil {
		p.t.Error(err)
	}
}

func (p *player) batch(o batch.Options) []byte {
	return data(o, time.Now().UnixMilli(), p.rng.IntN(1000), 1+p.rng.IntN(4))
}

func (p *player) plain() { p.send(p.batch(batch.Plain()), AppendOptions{}) }

func (p *player) producer(id int64, transactional bool) []byte {
	o := batch.Plain()
	o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = id, 0, p.next[id], transactional
	raw := p.batch(o)
	h, err := batch.Parse(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	p.next[id] += h.LastOffsetDelta + 1
	return raw
}

func (p *player) idempotent() {
	id := int64(p.rng.IntN(4))
	raw := p.producer(id, false)
	p.sent[id] = bytes.Clone(raw)
	p.send(raw, AppendOptions{})
}

func (p *player) transactional() {
	id := int64(100 + p.rng.IntN(3))
	p.send(p.producer(id, true), AppendOptions{Verified: !p.open[id]})
	p.open[id] = true
}

func (p *player) marker() {
	id := int64(100 + p.rng.IntN(3))
	if !p.open[id] {
		return
	}
	kind := batch.ControlCommit
	if p.rng.IntN(2) == 0 {
		kind = batch.ControlAbort
	}
	p.send(batch.AppendMarker(nil, id, 0, kind, 1, time.Now().UnixMilli()), AppendOptions{Origin: Coordinator})
	p.open[id] = false
}

// again sends the last batch of a producer a second time.
func (p *player) again() {
	id := int64(p.rng.IntN(4))
	if p.sent[id] == nil || p.must("t").producers.byID[id] == nil {
		return
	}
	end := p.must("t").Offsets().End
	done, err := p.append("t", p.sent[id], AppendOptions{LeaderEpoch: 1})
	if err != nil || !done.Duplicate || p.must("t").Offsets().End != end {
		p.t.Errorf("a repeated batch of producer %d: %+v, %v", id, done, err)
	}
}

func (p *player) compare() {
	if err := p.ledger("t").check(p.must("t"), true); err != nil {
		p.t.Error(err)
	}
}

func (p *player) delete() {
	o := p.must("t").Offsets()
	if err := p.deleteBefore("t", o.Start+p.rng.Int64N(o.End-o.Start+1)/3); err != nil {
		p.t.Error(err)
	}
}

// read asks for a random offset and compares bytes, limits and aborted transactions.
func (p *player) read() {
	l, g := p.must("t"), p.ledger("t")
	o := l.Offsets()
	from, limit, mark := o.Start-1+p.rng.Int64N(o.End-o.Start+3), p.rng.IntN(700), Mark(p.rng.IntN(2))
	c, err := l.Read(from, limit, mark, true)
	if from < o.Start || from > o.End {
		if !errors.Is(err, ErrOutOfRange) {
			p.t.Errorf("read at %d of %+v: %v", from, o, err)
		}
		return
	}
	if err != nil {
		p.t.Errorf("read at %d of %+v: %v", from, o, err)
		return
	}
	defer c.Release()
	var got []byte
	for _, r := range c.Runs() {
		b := make([]byte, r.Len)
		if _, err := r.File.ReadAt(b, r.Off); err != nil {
			p.t.Error(err)
		}
		got = append(got, b...)
	}
	want := p.expected(g, from, o.At(mark), limit)
	if !bytes.HasPrefix(want, got) || len(got) == 0 && len(want) > 0 {
		p.t.Errorf("read at %d of %+v, mark %d, limit %d: %d bytes, want a part of %d", from, o, mark, limit, len(got), len(want))
	}
	if mark == Stable && len(got) > 0 {
		p.compareAborted(&c, g, from, got)
	}
}

// expected is what a read may return at most: whole batches from the one with the
// offset on, below the mark, as many as fit but at least one.
func (p *player) expected(g *ledger, from, mark int64, limit int) []byte {
	var want []byte
	for _, e := range g.entries {
		if e.last < from || e.first >= mark {
			continue
		}
		if len(want) > 0 && len(want)+len(e.bytes) > limit {
			break
		}
		want = append(want, e.bytes...)
	}
	return want
}

// compareAborted: every aborted record in what was read is covered by an entry of its producer.
func (p *player) compareAborted(c *Chunk, g *ledger, from int64, got []byte) {
	for rest := got; len(rest) > 0; {
		h, err := batch.Parse(rest)
		if err != nil {
			p.t.Fatal(err)
		}
		rest = rest[h.Size():]
		if !h.Transactional() || h.Control() {
			continue
		}
		aborted := false
		for _, e := range g.entries {
			m, err := batch.Parse(e.bytes)
			if err != nil {
				p.t.Fatal(err)
			}
			if e.first > h.BaseOffset && m.Control() && m.ProducerID == h.ProducerID {
				mark, err := markerOf(&m, e.bytes)
				if err != nil {
					p.t.Fatal(err)
				}
				aborted = !mark.commit
				break
			}
		}
		listed := false
		for _, a := range c.Aborted {
			listed = listed || a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset
		}
		if aborted && !listed {
			p.t.Errorf("an aborted batch at %d of producer %d is not listed: %v", h.BaseOffset, h.ProducerID, c.Aborted)
		}
	}
}
