package inspect

import (
	"errors"
	"io"
	"strings"

	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

// checkQuorumFiles looks at what only the metadata log has: quorum-state and snapshots.
func (p *partition) checkQuorumFiles() {
	if p.as != KindMetadata {
		return
	}
	b, err := readSmall(p.fs, p.path(quorumStateFile))
	var q metadata.QuorumState
	if err == nil {
		q, err = metadata.ParseQuorumState(b)
	}
	switch {
	case missing(err):
		if p.data() {
			p.say(p.derived(none), quorumStateFile, none, none, "a single node's start makes it again", "it is missing")
		}
	case err != nil:
		p.say(Derived, quorumStateFile, none, none, "delete it: a single node's start makes it again", "%v", err)
	case len(p.epochs) > 0 && q.LeaderEpoch < p.epochs[len(p.epochs)-1].Epoch:
		p.say(Derived, quorumStateFile, none, none, "delete it: a single node's start makes it again", "leader epoch %d, and the log has epoch %d", q.LeaderEpoch, p.epochs[len(p.epochs)-1].Epoch)
	}
	covered := int64(none)
	for _, name := range sortedNames(p.files) {
		if !strings.HasSuffix(name, checkpointSuffix) {
			continue
		}
		offset, _, ok := snapshotOf(name)
		if !ok {
			p.say(Notice, name, none, none, "", "a snapshot whose name is not an offset and an epoch")
			continue
		}
		covered = max(covered, offset)
		p.checkMetadataSnapshot(name)
	}
	if len(p.bases) > 0 && p.bases[0] > 0 && covered < p.bases[0] {
		p.say(Damage, segmentFile(p.bases[0], logSuffix), none, p.bases[0], "restore the snapshot or the segments before", "the log begins at %d, and no snapshot covers what is before", p.bases[0])
	}
}

// checkMetadataSnapshot looks at a snapshot of the metadata log: a header, records, a footer.
func (p *partition) checkMetadataSnapshot(name string) {
	const do = "restore the file; if an older snapshot and the log are whole it may be deleted"
	f, size, err := open(p.fs, p.path(name))
	if err != nil {
		p.unreadable(name, err)
		return
	}
	p.reader.reset(f, size)
	expect, header, footer := int64(0), false, false
	_, epoch, _ := snapshotOf(name) // 0 for bootstrap.checkpoint
	for {
		e, err := p.reader.next()
		if err == io.EOF {
			break
		}
		pos := p.reader.pos
		if err == nil {
			pos, err = e.pos, e.wrong
		}
		if err == nil && e.magic != batch.Magic {
			err = errors.New("a message of an old format")
		}
		if err == nil {
			err = batch.CheckShape(&e.h)
		}
		if err != nil {
			p.say(Damage, name, pos, none, do, "%v", err)
			footer = true
			break
		}
		if e.h.LeaderEpoch != epoch {
			p.say(Notice, name, e.pos, none, "", "a batch has epoch %d in a snapshot of epoch %d", e.h.LeaderEpoch, epoch)
		}
		if e.h.BaseOffset != expect {
			p.say(Damage, name, e.pos, none, do, "a batch has offset %d, after %d", e.h.BaseOffset, expect-1)
		}
		expect = e.last() + 1
		p.sum.Batches++
		h, last, err := p.snapshotRecords(e, name)
		if err != nil {
			p.say(Damage, name, e.pos, none, do, "%v", err)
		}
		if footer {
			p.say(Damage, name, e.pos, none, do, "a batch comes after the footer")
		}
		header, footer = header || h && e.pos == 0, footer || last
	}
	if !header || !footer {
		p.say(Damage, name, none, none, do, "the snapshot is not complete: header %t, footer %t", header, footer)
	}
	if err := f.Close(); err != nil {
		p.unreadable(name, err)
	}
}

// snapshotRecords decodes a batch of a snapshot. It tells whether it holds the header or the footer.
func (p *partition) snapshotRecords(e *entry, name string) (header, footer bool, err error) {
	if e.whole == nil {
		p.say(Notice, name, e.pos, none, "", "a batch of %d bytes is too large to look at its records", e.size)
		return false, false, nil
	}
	err = p.decoder.Records(e.whole, maxWholeBytes, func(r batch.Record) error {
		p.sum.Records++
		if !e.h.Control() {
			return p.records.record(KindMetadata, r.Key, r.Value)
		}
		c, err := decodeControl(r.Key, r.Value)
		header = header || c.kind == metadata.ControlSnapshotHeader
		footer = footer || c.kind == metadata.ControlSnapshotFooter
		return err
	})
	return header, footer, err
}
