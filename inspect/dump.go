package inspect

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

// DumpOptions say how files are printed.
type DumpOptions struct {
	FS      vfs.FS
	Records bool // of segments, not only the batches
	JSON    bool // one object on a line
	// As says what the records of a segment are, where its directory's name does not: nil.
	As *Kind
}

// Dump prints a file: a segment, an index, a snapshot, a checkpoint, or another file of a
// data directory, by its name. What stands before broken bytes is printed; the error then
// says where they begin. An error of w ends it, too.
func Dump(w io.Writer, o DumpOptions, file string) error {
	d := dumper{o: o, w: bufio.NewWriterSize(w, 64<<10), file: file}
	err := d.dump()
	if werr := errors.Join(d.werr, d.w.Flush()); werr != nil {
		return fmt.Errorf("write: %w", werr)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// dumper prints one file.
type dumper struct {
	o       DumpOptions
	w       *bufio.Writer
	werr    error
	file    string
	tools   tools
	scratch []byte
}

// errUnknownFile: no file of a data directory has such a name.
var errUnknownFile = errors.New("its name is not that of a file of a data directory: segments, indexes, snapshots and checkpoints are told apart by their names")

func (d *dumper) dump() error {
	base, name := int64(0), filepath.Base(d.file)
	for _, suffix := range []string{".deleted", ".swap", ".cleaned"} {
		name = strings.TrimSuffix(name, suffix)
	}
	if offset, suffix, ok := log.FileOffset(name); ok {
		base = offset
		switch suffix {
		case logSuffix:
			return d.segment(KindPlain)
		case indexSuffix:
			return d.index(base)
		case timeIndexSuffix:
			return d.timeIndex(base)
		case txnIndexSuffix:
			return d.txnIndex()
		case snapshotSuffix:
			return d.producers()
		}
	}
	if _, _, ok := snapshotOf(name); ok || name == bootstrapFile {
		return d.segment(KindMetadata)
	}
	switch name {
	case recoveryPointFile, logStartFile, highWatermarkFile, cleanerFile:
		return d.offsets()
	case epochFile:
		return d.epochs()
	case partitionFile, metaPropertiesFile, quorumStateFile, cleanShutdownFile:
		return d.small(name)
	}
	return errUnknownFile
}

// kv is a field of what is printed: text as "name: value", JSON as "name":value.
type kv struct {
	name  string
	value any
}

// line prints an object: in text its fields on a line, in JSON an object with its kind.
func (d *dumper) line(kind, prefix string, fields ...kv) {
	b := d.scratch[:0]
	if d.o.JSON {
		b = appendQuoted(append(b, `{"kind":`...), kind)
		for _, f := range fields {
			b = append(appendQuoted(append(b, ','), f.name), ':')
			b = appendValue(b, f.value)
		}
		b = append(b, '}')
	} else {
		b = append(b, prefix...)
		for i, f := range fields {
			if i > 0 {
				b = append(b, ' ')
			}
			b = append(append(b, f.name...), ": "...)
			if raw, ok := f.value.(json.RawMessage); ok {
				b = append(b, raw...)
			} else {
				b = fmt.Append(b, f.value)
			}
		}
	}
	d.scratch = append(b, '\n')
	if d.werr == nil {
		_, d.werr = d.w.Write(d.scratch)
	}
}

// appendValue appends a value as JSON.
func appendValue(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // a value of ours always marshals, but what is raw may be a lie
		return appendQuoted(b, fmt.Sprint(v))
	}
	return append(b, text...)
}

// each opens the file as entries of one size and prints them until one cannot be.
func (d *dumper) each(bytes int, print func(b []byte, pos int64)) error {
	t := &d.tools.index
	if err := t.open(d.o.FS, d.file, bytes); err != nil {
		return err
	}
	for d.werr == nil {
		b, err := t.peek()
		if err == io.EOF {
			break
		}
		if err != nil {
			why := fmt.Errorf("the entry at byte %d cannot be read: %w", t.pos, err)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				why = fmt.Errorf("the file ends in the middle of the entry at byte %d", t.pos)
			}
			return errors.Join(why, t.close())
		}
		print(b, t.pos)
		t.pass()
	}
	return t.close()
}

func (d *dumper) index(base int64) error {
	return d.each(log.IndexEntryBytes, func(b []byte, _ int64) {
		rel, pos := log.DecodeIndexEntry(b)
		d.line("index", "", kv{"offset", base + int64(rel)}, kv{"position", pos})
	})
}

func (d *dumper) timeIndex(base int64) error {
	return d.each(log.TimeEntryBytes, func(b []byte, _ int64) {
		timestamp, rel := log.DecodeTimeEntry(b)
		d.line("timeindex", "", kv{"timestamp", timestamp}, kv{"offset", base + int64(rel)})
	})
}

func (d *dumper) txnIndex() error {
	return d.each(log.AbortedEntryBytes, func(b []byte, _ int64) {
		e := log.DecodeAborted(b)
		d.line("txnindex", "", kv{"version", e.Version}, kv{"producerId", e.ProducerID}, kv{"firstOffset", e.FirstOffset},
			kv{"lastOffset", e.LastOffset}, kv{"lastStableOffset", e.StableOffset})
	})
}

// producers prints a producer snapshot.
func (d *dumper) producers() error {
	f, size, err := open(d.o.FS, d.file)
	if err != nil {
		return err
	}
	p := partition{tools: &d.tools}
	p.scratch.reset(f, size)
	why := p.checkSnapshot(size)
	for pos := int64(log.SnapshotHeaderBytes); pos < size && d.werr == nil; pos += log.SnapshotEntryBytes {
		b, err := p.scratch.at(pos, int(min(log.SnapshotEntryBytes, size-pos)))
		if err != nil || len(b) < log.SnapshotEntryBytes {
			break // the count says so, too
		}
		e := log.DecodeProducer(b)
		var txn any = e.TxnFirstOffset
		if e.TxnFirstOffset < 0 {
			txn = d.nothing()
		}
		fields := []kv{{"producerId", e.ID}, {"producerEpoch", e.Epoch}, {"coordinatorEpoch", e.CoordinatorEpoch}, {"currentTxnFirstOffset", txn}, {"lastTimestamp", e.Timestamp}}
		if e.LastOffset >= 0 {
			fields = append(fields, kv{"firstSequence", e.FirstSequence()}, kv{"lastSequence", e.LastSequence}, kv{"lastOffset", e.LastOffset}, kv{"offsetDelta", e.OffsetDelta}, kv{"timestamp", e.Timestamp})
		}
		d.line("producer", "", fields...)
	}
	if why != "" {
		return errors.Join(errors.New(why), f.Close())
	}
	return f.Close()
}

// nothing is a value that is not there.
func (d *dumper) nothing() any {
	if d.o.JSON {
		return nil
	}
	return "none"
}

func (d *dumper) offsets() error {
	b, err := readSmall(d.o.FS, d.file)
	if err != nil {
		return err
	}
	lines, err := log.ParseOffsets(b)
	for _, l := range lines {
		d.line("checkpoint", "", kv{"topic", l.Topic}, kv{"partition", l.Partition}, kv{"offset", l.Offset})
	}
	return err
}

func (d *dumper) epochs() error {
	b, err := readSmall(d.o.FS, d.file)
	if err != nil {
		return err
	}
	lines, err := log.ParseEpochs(b)
	for _, l := range lines {
		d.line("epoch", "", kv{"leaderEpoch", l.Epoch}, kv{"startOffset", l.Start})
	}
	return err
}

// small prints one of the files that say one thing.
func (d *dumper) small(name string) error {
	b, err := readSmall(d.o.FS, d.file)
	if err != nil {
		return err
	}
	switch name {
	case partitionFile:
		id, err := log.ParseTopicID(b)
		if err == nil {
			d.line("partition.metadata", "", kv{"topicId", metadata.UUIDString(id)})
		}
		return err
	case metaPropertiesFile:
		m, err := metadata.ParseMetaProperties(b)
		if err == nil {
			d.line("meta.properties", "", kv{"clusterId", m.ClusterID}, kv{"nodeId", m.NodeID}, kv{"directoryId", metadata.UUIDString(m.DirectoryID)})
		}
		return err
	case quorumStateFile:
		q, err := metadata.ParseQuorumState(b)
		if err == nil {
			d.line(quorumStateFile, "", kv{"dataVersion", q.DataVersion}, kv{"leaderId", q.LeaderID}, kv{"leaderEpoch", q.LeaderEpoch}, kv{"votedId", q.VotedID},
				kv{"votedDirectoryId", metadata.UUIDString(q.VotedDirectoryID)}, kv{"currentVoters", q.CurrentVoters})
		}
		return err
	}
	text := json.RawMessage(bytes.TrimSpace(b))
	if !json.Valid(text) {
		return fmt.Errorf("it is not JSON: %q", cut(b))
	}
	d.line(cleanShutdownFile, "", kv{"marker", text})
	return nil
}
