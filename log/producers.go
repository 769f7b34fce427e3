package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sort"

	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/log/batch"
)

const (
	// retainedBatches is how many batches of a producer are known for finding
	// duplicates: a client has at most five in flight (ProducerStateEntry).
	retainedBatches = 5
	// maxProducers bounds the producers that a log remembers, 10 MB of them. Beyond
	// it the idlest without a transaction are forgotten, as if they had expired.
	maxProducers = 1 << 16
	// fewProducers is as many while memory is short.
	fewProducers = 1 << 12

	snapshotVersion     = 1
	snapshotHeaderBytes = 2 + 4 + 4
	snapshotEntryBytes  = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
	// maxSnapshotBytes bounds what is read back, Kafka's snapshots included.
	maxSnapshotBytes = 256 << 20
)

// seqBatch is one batch that a producer wrote.
type seqBatch struct {
	lastSeq, delta        int32
	lastOffset, timestamp int64
}

func (s *seqBatch) firstSeq() int32    { return batch.SubSequence(s.lastSeq, s.delta) }
func (s *seqBatch) firstOffset() int64 { return s.lastOffset - int64(s.delta) }

// producer is what a log knows of one producer id (ProducerStateEntry).
type producer struct {
	epoch            int16
	coordinatorEpoch int32
	lastTimestamp    int64
	txnFirst         int64 // first offset of the open transaction, -1: none
	markedAt         int64 // producers.marks at its last marker
	n                int   // valid batches, oldest first
	batches          [retainedBatches]seqBatch
}

func newProducer() *producer {
	return &producer{epoch: batch.NoProducerEpoch, coordinatorEpoch: -1, lastTimestamp: batch.NoTimestamp, txnFirst: -1}
}

func (p *producer) lastSeq() int32 {
	if p.n == 0 {
		return batch.NoSequence
	}
	return p.batches[p.n-1].lastSeq
}

func (p *producer) setEpoch(epoch int16) {
	if p.epoch != epoch {
		p.epoch, p.n = epoch, 0
	}
}

func (p *producer) add(b seqBatch) {
	if p.n == retainedBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = b
	p.n++
}

// duplicate finds the batch that was appended before with these sequences.
func (p *producer) duplicate(h *batch.Header) *seqBatch {
	if p.epoch != h.ProducerEpoch {
		return nil
	}
	for i := range p.n {
		if mutant.On(mutant.OnlyNewestKnown) && i < p.n-1 {
			continue
		}
		if b := &p.batches[i]; b.firstSeq() == h.BaseSequence && b.lastSeq == h.LastSequence() {
			return b
		}
	}
	return nil
}

// marker is the content of a control batch that ends a transaction.
type marker struct {
	commit           bool
	coordinatorEpoch int32
	timestamp        int64
}

// completed is a transaction that a marker ended.
type completed struct {
	producerID              int64
	firstOffset, lastOffset int64 // lastOffset is the marker's
	aborted                 bool
}

// openTxn is a transaction without a marker yet.
type openTxn struct{ first, producerID int64 }

// producers is the idempotence and transaction state of one log: what
// ProducerStateManager and ProducerAppendInfo are in Kafka. Plain data.
type producers struct {
	byID  map[int64]*producer
	open  []openTxn   // by first offset
	short func() bool // memory is short; nil: it never is

	marks     int64                   // markers since the log was opened
	verifying map[int64]*verification // by producer id; nothing of it is in snapshots
}

func newProducers() *producers { return &producers{byID: map[int64]*producer{}} }

// check decides whether a batch may be appended; h has its final base offset. A
// client's batch that is there already is returned as duplicate. Nothing changes.
func (ps *producers) check(h *batch.Header, m *marker, o *AppendOptions) (duplicate *seqBatch, err error) {
	p := ps.byID[h.ProducerID]
	if p == nil {
		p = newProducer()
	}
	return p.check(h, m, o, o.Guard.passed(ps, p), ps.verifying[h.ProducerID])
}

// check is the same for one producer. passed: see TxnGuard. v is nil where no verification is pending.
func (p *producer) check(h *batch.Header, m *marker, o *AppendOptions, passed bool, v *verification) (*seqBatch, error) {
	if m != nil {
		return nil, p.checkMarker(h, m, o)
	}
	if o.Origin == Client {
		if d := p.duplicate(h); d != nil {
			return d, nil
		}
	}
	if h.ProducerEpoch < p.epoch {
		return nil, staleEpoch(h.ProducerID, h.ProducerEpoch, p.epoch)
	}
	ongoing := p.txnFirst >= 0 && p.epoch == h.ProducerEpoch
	if h.Transactional() && !ongoing && (!o.Verified || passed) && !mutant.On(mutant.UnverifiedAccepted) {
		return nil, fmt.Errorf("%w: producer %d", ErrInvalidTxnState, h.ProducerID)
	}
	if o.Origin == Client {
		if v != nil && h.BaseSequence > v.lowest {
			return nil, fmt.Errorf("%w: producer %d at offset %d: %d (incoming seq. number), %d (earliest seen sequence)", ErrOutOfOrderSequence, h.ProducerID, h.BaseOffset, h.BaseSequence, v.lowest)
		}
		if err := p.checkSequence(h, o); err != nil {
			return nil, err
		}
	}
	if p.txnFirst >= 0 && !h.Transactional() {
		return nil, fmt.Errorf("%w: expected transactional write from producer %d", ErrInvalidTxnState, h.ProducerID)
	}
	return nil, nil
}

func (p *producer) checkMarker(h *batch.Header, m *marker, o *AppendOptions) error {
	// From transaction version 2 on each transaction has an epoch of its own (KIP-890,
	// KIP-1228), so that a late marker cannot end the next one.
	if h.ProducerEpoch < p.epoch || o.TransactionVersion >= 2 && h.ProducerEpoch == p.epoch && !mutant.On(mutant.OldMarkerAccepted) {
		return fmt.Errorf("%w: marker of producer %d has epoch %d, the last seen epoch is %d (TV%d)", ErrInvalidProducerEpoch, h.ProducerID, h.ProducerEpoch, p.epoch, o.TransactionVersion)
	}
	if p.coordinatorEpoch > m.coordinatorEpoch {
		return fmt.Errorf("%w: producer %d, coordinator epoch %d, the last seen is %d", ErrCoordinatorFenced, h.ProducerID, m.coordinatorEpoch, p.coordinatorEpoch)
	}
	return nil
}

func (p *producer) checkSequence(h *batch.Header, o *AppendOptions) error {
	first := h.BaseSequence
	// A first batch from an unknown producer is accepted at any sequence number:
	// its earlier state may have expired (KIP-360). Not so in transaction version 2,
	// where a transaction begins at 0.
	if o.TransactionVersion >= 2 && h.Transactional() && first != 0 && p.epoch == batch.NoProducerEpoch {
		return fmt.Errorf("%w: producer %d without state begins at %d, expected 0", ErrOutOfOrderSequence, h.ProducerID, first)
	}
	if p.epoch == batch.NoProducerEpoch {
		return nil
	}
	if h.ProducerEpoch != p.epoch {
		if first != 0 {
			return fmt.Errorf("%w: producer %d begins epoch %d at %d, the epoch before was %d", ErrOutOfOrderSequence, h.ProducerID, h.ProducerEpoch, first, p.epoch)
		}
		return nil
	}
	if last := p.lastSeq(); int64(first) != int64(last)+1 && !mutant.On(mutant.SequenceGap) && (first != 0 || last != 1<<31-1) {
		return fmt.Errorf("%w: producer %d at offset %d: %d (incoming seq. number), %d (current end sequence number)", ErrOutOfOrderSequence, h.ProducerID, h.BaseOffset, first, last)
	}
	return nil
}

// apply makes an appended batch part of the state. It returns the transaction that
// the batch ended, if any. The same call serves live and recovery.
func (ps *producers) apply(h *batch.Header, m *marker) *completed {
	if m == nil && h.Control() {
		return nil // compaction has emptied it
	}
	ps.verified(h, m)
	p := ps.byID[h.ProducerID]
	if p == nil {
		ps.makeRoom()
		p = newProducer()
		ps.byID[h.ProducerID] = p
	}
	if m != nil {
		return ps.end(p, h, m)
	}
	p.setEpoch(h.ProducerEpoch)
	p.add(seqBatch{lastSeq: h.LastSequence(), delta: h.LastOffsetDelta, lastOffset: h.LastOffset(), timestamp: h.MaxTimestamp})
	p.lastTimestamp = h.MaxTimestamp
	if h.Transactional() && p.txnFirst < 0 {
		p.txnFirst = h.BaseOffset
		ps.begin(openTxn{h.BaseOffset, h.ProducerID})
	}
	return nil
}

func (ps *producers) end(p *producer, h *batch.Header, m *marker) *completed {
	var c *completed
	if p.txnFirst >= 0 {
		c = &completed{producerID: h.ProducerID, firstOffset: p.txnFirst, lastOffset: h.BaseOffset, aborted: !m.commit}
		ps.open = slices.DeleteFunc(ps.open, func(t openTxn) bool { return t.first == p.txnFirst })
	}
	p.setEpoch(h.ProducerEpoch)
	p.coordinatorEpoch, p.lastTimestamp, p.txnFirst = m.coordinatorEpoch, m.timestamp, -1
	ps.marks++
	p.markedAt = ps.marks
	return c
}

func (ps *producers) begin(t openTxn) {
	i := sort.Search(len(ps.open), func(i int) bool { return ps.open[i].first > t.first })
	ps.open = slices.Insert(ps.open, i, t)
}

// firstUnstable is the first offset of the earliest open transaction.
func (ps *producers) firstUnstable() (offset int64, ok bool) {
	if len(ps.open) == 0 {
		return 0, false
	}
	return ps.open[0].first, true
}

// abortedBy is the entry of the transaction index for a transaction that was just aborted.
func (ps *producers) abortedBy(c *completed) abortedTxn {
	stable := c.lastOffset + 1
	if first, ok := ps.firstUnstable(); ok {
		stable = first
	}
	return abortedTxn{c.producerID, c.firstOffset, c.lastOffset, stable}
}

// makeRoom forgets the idlest when the limit is reached, down to seven eighths of it.
func (ps *producers) makeRoom() {
	most := maxProducers
	if ps.short != nil && len(ps.byID) >= fewProducers && ps.short() {
		most = fewProducers
	}
	if len(ps.byID) < most {
		return
	}
	idle := make([]int64, 0, len(ps.byID))
	for id, p := range ps.byID {
		if p.txnFirst < 0 {
			idle = append(idle, id)
		}
	}
	sort.Slice(idle, func(i, j int) bool {
		a, b := ps.byID[idle[i]], ps.byID[idle[j]]
		if a.lastTimestamp != b.lastTimestamp {
			return a.lastTimestamp < b.lastTimestamp
		}
		return idle[i] < idle[j]
	})
	for _, id := range idle[:min(len(idle), len(ps.byID)-most+most/8)] {
		delete(ps.byID, id)
	}
}

// expire forgets producers whose last batch is older than producer.id.expiration.ms.
func (ps *producers) expire(nowMillis, expirationMillis int64) {
	ps.expireVerifications(nowMillis, expirationMillis)
	for id, p := range ps.byID {
		if p.txnFirst < 0 && nowMillis-p.lastTimestamp >= expirationMillis {
			delete(ps.byID, id)
		}
	}
}

// castagnoli is the polynomial of the snapshot's CRC.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snapshot writes the state as Kafka's producer snapshot, version 1, by producer id:
// the newest batch of each producer.
func (ps *producers) snapshot() []byte {
	ids := make([]int64, 0, len(ps.byID))
	for id := range ps.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	b := make([]byte, snapshotHeaderBytes, snapshotHeaderBytes+len(ids)*snapshotEntryBytes)
	binary.BigEndian.PutUint16(b, snapshotVersion)
	binary.BigEndian.PutUint32(b[6:], uint32(len(ids)))
	for _, id := range ids {
		p := ps.byID[id]
		last := seqBatch{lastSeq: batch.NoSequence, lastOffset: -1}
		if p.n > 0 {
			last = p.batches[p.n-1]
		}
		b = binary.BigEndian.AppendUint64(b, uint64(id))
		b = binary.BigEndian.AppendUint16(b, uint16(p.epoch))
		b = binary.BigEndian.AppendUint32(b, uint32(last.lastSeq))
		b = binary.BigEndian.AppendUint64(b, uint64(last.lastOffset))
		b = binary.BigEndian.AppendUint32(b, uint32(last.delta))
		b = binary.BigEndian.AppendUint64(b, uint64(p.lastTimestamp))
		b = binary.BigEndian.AppendUint32(b, uint32(p.coordinatorEpoch))
		b = binary.BigEndian.AppendUint64(b, uint64(p.txnFirst))
	}
	binary.BigEndian.PutUint32(b[2:], crc32.Checksum(b[6:], castagnoli))
	return b
}

// decodeProducer reads an entry of a producer snapshot.
func decodeProducer(b []byte) (id int64, p *producer) {
	p = newProducer()
	p.epoch = int16(binary.BigEndian.Uint16(b[8:]))
	last := seqBatch{
		lastSeq: int32(binary.BigEndian.Uint32(b[10:])), lastOffset: int64(binary.BigEndian.Uint64(b[14:])),
		delta: int32(binary.BigEndian.Uint32(b[22:])), timestamp: int64(binary.BigEndian.Uint64(b[26:])),
	}
	p.lastTimestamp = last.timestamp
	p.coordinatorEpoch = int32(binary.BigEndian.Uint32(b[34:]))
	p.txnFirst = int64(binary.BigEndian.Uint64(b[38:]))
	if last.lastOffset >= 0 {
		p.add(last)
	}
	return int64(binary.BigEndian.Uint64(b)), p
}

// parseSnapshot reads a producer snapshot.
func parseSnapshot(b []byte) (*producers, error) {
	if len(b) < snapshotHeaderBytes || binary.BigEndian.Uint16(b) != snapshotVersion {
		return nil, errors.New("not a producer snapshot of version 1")
	}
	if sum := crc32.Checksum(b[6:], castagnoli); sum != binary.BigEndian.Uint32(b[2:]) {
		return nil, errors.New("producer snapshot has a wrong crc")
	}
	count := int64(binary.BigEndian.Uint32(b[6:]))
	if b = b[snapshotHeaderBytes:]; count*snapshotEntryBytes != int64(len(b)) {
		return nil, fmt.Errorf("producer snapshot says %d entries in %d bytes", count, len(b))
	}
	ps := newProducers()
	for ; len(b) > 0; b = b[snapshotEntryBytes:] {
		id, p := decodeProducer(b)
		ps.byID[id] = p
		if p.txnFirst >= 0 {
			ps.begin(openTxn{p.txnFirst, id})
		}
	}
	return ps, nil
}
