package broker

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
)

const (
	// journalReadBytes is how much of a partition is read at once while loading:
	// large sequential reads cost least (performance.md).
	journalReadBytes = 4 << 20
	// journalBatchBytes bounds one batch that a coordinator writes: under the
	// default max.message.bytes of 1 MiB, so that any reader can take it.
	journalBatchBytes = 1 << 20
)

// journal keeps a shard's records in a partition log.
type journal struct {
	open    func() (*log.Log, error)
	epoch   int32
	origin  log.Origin
	durable bool
	// snapshots, if not nil, are those of the log: loading begins with the newest.
	snapshots *snapshots
}

// Load reads the partition from its start to its end.
func (j *journal) Load(apply func(coordinator.Record) error) error {
	l, err := j.open()
	if err != nil {
		return err
	}
	o := l.Offsets()
	from := o.Start
	if j.snapshots != nil {
		if from, err = j.snapshots.load(o, apply); err != nil {
			return fmt.Errorf("load what was before offset %d of %s-%d: %w", o.Start, l.Topic(), l.Partition(), err)
		}
	}
	return readBatches(l, from, o.End, func(h *batch.Header, b []byte) error {
		if err := batch.CheckStoredCRC(h, b); err != nil {
			return err
		}
		if mutant.On(mutant.JournalEndsEarly) && h.LastOffset()+1 == o.End && o.End > 1 && j.origin == log.Coordinator {
			return nil
		}
		j.count(len(b), h.MaxTimestamp)
		return loadBatch(h, b, from, apply)
	})
}

// count tells the snapshots what there is behind the newest of them.
func (j *journal) count(bytes int, timestamp int64) {
	if j.snapshots != nil {
		j.snapshots.count(bytes, timestamp)
	}
}

// readBatches calls each for the batches of a log from an offset to an end, in large
// reads.
func readBatches(l *log.Log, from, end int64, each func(h *batch.Header, b []byte) error) error {
	for from < end {
		next, err := readSome(l, from, each)
		if err != nil {
			return fmt.Errorf("load %s-%d from offset %d: %w", l.Topic(), l.Partition(), from, err)
		}
		if next <= from {
			return fmt.Errorf("load %s-%d: no batch at offset %d below the end %d", l.Topic(), l.Partition(), from, end)
		}
		from = next
	}
	return nil
}

func readSome(l *log.Log, from int64, each func(h *batch.Header, b []byte) error) (next int64, err error) {
	chunk, err := l.Read(from, journalReadBytes, log.End, true)
	if err != nil {
		return 0, err
	}
	defer chunk.Release()
	next = from
	for _, run := range chunk.Runs() {
		b := run.Data
		if run.File != nil {
			b = make([]byte, run.Len)
			if _, err := io.ReadFull(io.NewSectionReader(run.File, run.Off, int64(run.Len)), b); err != nil {
				return 0, err
			}
		}
		for len(b) > 0 {
			h, err := batch.Stored(b)
			if err == nil && h.Size() > len(b) {
				err = batch.ErrNone
			}
			if err != nil {
				return 0, err
			}
			if err := each(&h, b[:h.Size()]); err != nil {
				return 0, err
			}
			next = h.LastOffset() + 1
			b = b[h.Size():]
		}
	}
	return next, nil
}

func loadBatch(h *batch.Header, b []byte, from int64, apply func(coordinator.Record) error) error {
	return new(batch.Decoder).StoredRecords(h, b, journalBatchBytes*8, func(r batch.Record) error {
		if h.BaseOffset+int64(r.OffsetDelta) < from {
			return nil
		}
		rec := coordinator.Record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Timestamp: h.BaseTimestamp + r.TimestampDelta}
		if h.Transactional() || h.Control() {
			rec.ProducerID, rec.ProducerEpoch, rec.Transactional = h.ProducerID, h.ProducerEpoch, true
		}
		if h.Control() {
			kind, ok := batch.ControlType(r.Key)
			if !ok {
				return nil
			}
			switch kind {
			case batch.ControlCommit:
				rec.Control = coordinator.Commit
			case batch.ControlAbort:
				rec.Control = coordinator.Abort
			default:
				return apply(coordinator.Record{Key: rec.Key, Value: rec.Value}) // of the metadata log's quorum
			}
			rec.Key, rec.Value = nil, nil
		}
		return apply(rec)
	})
}

// Append writes the records in as few batches as they fit into, in one append: all
// or none. Records of a transaction get a batch of their producer: the shard answers for
// its being open. A marker is a batch of its own. Records of the
// metadata log are never cut apart: a batch is what a crash leaves whole.
func (j *journal) Append(now time.Time, rs []coordinator.Record) (coordinator.Receipt, error) {
	l, err := j.open()
	if err != nil {
		return nil, err
	}
	b := j.encode(now.UnixMilli(), rs)
	done, err := l.Append(now, b, log.AppendOptions{Origin: j.origin, Durable: j.durable, LeaderEpoch: j.epoch, Verified: true})
	if err != nil {
		return nil, fmt.Errorf("append %d records to %s-%d: %w", len(rs), l.Topic(), l.Partition(), err)
	}
	j.count(len(b), now.UnixMilli())
	if done.Commit == nil {
		return nil, nil
	}
	return done.Commit, nil
}

func (j *journal) encode(now int64, rs []coordinator.Record) []byte {
	var b []byte
	var messages []batch.Message
	size := 0
	for i := 0; i < len(rs); i++ {
		r := &rs[i]
		if r.Control != coordinator.None {
			kind := batch.ControlAbort
			if r.Control == coordinator.Commit {
				kind = batch.ControlCommit
			}
			b = batch.AppendMarker(b, r.ProducerID, r.ProducerEpoch, kind, r.CoordinatorEpoch, now)
			continue
		}
		m := batch.Message{Timestamp: now, Key: r.Key, Value: r.Value}
		if r.Timestamp != 0 {
			m.Timestamp = r.Timestamp
		}
		messages = append(messages, m)
		size += len(r.Key) + len(r.Value) + recordOverhead
		control := j.origin == log.Raft && r.Key != nil // of the quorum: the metadata log's own records have no key
		if i+1 < len(rs) && sameBatch(r, &rs[i+1]) && (j.origin != log.Raft || control == (rs[i+1].Key != nil)) && (j.origin == log.Raft ||
			size+len(rs[i+1].Key)+len(rs[i+1].Value)+recordOverhead < journalBatchBytes-batch.HeaderBytes) {
			continue
		}
		o := batch.Plain()
		o.Control = control
		if r.Transactional {
			o.ProducerID, o.ProducerEpoch, o.Transactional = r.ProducerID, r.ProducerEpoch, true
		}
		b = batch.Append(b, o, messages)
		messages, size = messages[:0], 0
	}
	return b
}

// recordOverhead is more than a record's own fields take in a batch.
const recordOverhead = 40

func sameBatch(a, b *coordinator.Record) bool {
	return b.Control == coordinator.None && a.Transactional == b.Transactional &&
		(!a.Transactional || a.ProducerID == b.ProducerID && a.ProducerEpoch == b.ProducerEpoch)
}
