package broker

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

const (
	snapshotSuffix = ".checkpoint"
	// partSuffix and deletedSuffix are those of Kafka's Snapshots: not complete, and
	// about to be removed. Both are removed at the next start.
	partSuffix    = snapshotSuffix + ".part"
	deletedSuffix = snapshotSuffix + ".deleted"
	// damagedSuffix takes a snapshot that cannot be read out of Kafka's sight and ours.
	damagedSuffix = snapshotSuffix + ".damaged"
)

// errUnsynced: a file or directory could not be made durable. No later sync of the
// same disk can be believed (decision 4).
var errUnsynced = errors.New("sync failed")

// snapshotID names a snapshot by what it stands for: the log below an offset, whose
// last record is of that leader epoch.
type snapshotID struct {
	offset int64
	epoch  int32
}

func (id snapshotID) String() string { return fmt.Sprintf("%020d-%010d", id.offset, id.epoch) }

// compareSnapshots orders by epoch and offset (Kafka's OffsetAndEpoch).
func compareSnapshots(a, b snapshotID) int {
	return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.offset, b.offset))
}

// parseSnapshotName reads the id in front of a suffix.
func parseSnapshotName(name, suffix string) (id snapshotID, ok bool) {
	text, ok := strings.CutSuffix(name, suffix)
	if !ok || len(text) != 31 || text[20] != '-' {
		return id, false
	}
	offset, err1 := strconv.ParseInt(text[:20], 10, 64)
	epoch, err2 := strconv.ParseInt(text[21:], 10, 32)
	if err1 != nil || err2 != nil || offset < 0 || epoch < 0 {
		return id, false
	}
	return snapshotID{offset, int32(epoch)}, true
}

// snapshotContent is what is written into a snapshot (KIP-630), or into
// bootstrap.checkpoint.
type snapshotContent struct {
	epoch         int32
	lastTimestamp int64 // of the last record of the log that it stands for, milliseconds
	now           int64 // milliseconds
	control       []metadata.ControlRecord
	records       iter.Seq[[]byte]
}

// writeTo writes a header with what is known of the voters, the records in batches,
// and a footer, as Kafka's RecordsSnapshotWriter lays them out. stop, if not nil, is
// asked before each batch.
func (c *snapshotContent) writeTo(w io.Writer, stop func() error) error {
	offset := int64(0)
	var text []byte
	write := func(ms []batch.Message, control bool) error {
		if stop != nil {
			if err := stop(); err != nil {
				return err
			}
		}
		o := batch.Plain()
		o.BaseOffset, o.LeaderEpoch, o.Control = offset, c.epoch, control
		text = batch.Append(text[:0], o, ms)
		offset += int64(len(ms))
		_, err := w.Write(text)
		return err
	}
	message := func(t metadata.ControlType, value []byte) batch.Message {
		return batch.Message{Timestamp: c.now, Key: metadata.AppendControlKey(nil, t), Value: value}
	}
	header := metadata.SnapshotHeader{LastContainedLogTimestamp: c.lastTimestamp}
	head := []batch.Message{message(metadata.ControlSnapshotHeader, header.AppendTo(nil))}
	for _, r := range c.control {
		head = append(head, message(r.Type, r.Value))
	}
	if err := write(head, true); err != nil {
		return err
	}
	var ms []batch.Message
	size := 0
	for r := range c.records {
		if size += len(r) + recordOverhead; size > journalBatchBytes && len(ms) > 0 {
			if err := write(ms, false); err != nil {
				return err
			}
			ms, size = ms[:0], len(r)+recordOverhead
		}
		ms = append(ms, batch.Message{Timestamp: c.now, Value: r})
	}
	if len(ms) > 0 {
		if err := write(ms, false); err != nil {
			return err
		}
	}
	return write([]batch.Message{message(metadata.ControlSnapshotFooter, new(metadata.SnapshotFooter).AppendTo(nil))}, true)
}

// fileWriter writes one piece after the other.
type fileWriter struct {
	f   vfs.File
	pos int64
}

func (w *fileWriter) Write(b []byte) (int, error) {
	n, err := w.f.WriteAt(b, w.pos)
	w.pos += int64(n)
	return n, err
}

// writeSnapshot makes a file of that name so that after a crash it is there whole or
// not at all: temporary file, fsync, rename, fsync of the directory. It returns the
// size. An error that is errUnsynced says that nothing may rest on what was written.
func writeSnapshot(fsys vfs.FS, temporary, name string, c *snapshotContent, stop func() error) (size int64, err error) {
	if size, err = nameSnapshot(fsys, temporary, name, c, stop); err != nil {
		return 0, err
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return 0, fmt.Errorf("write %s: %w: %w", name, errUnsynced, err)
	}
	return size, nil
}

// nameSnapshot is writeSnapshot without the sync of the directory, which the caller owes.
func nameSnapshot(fsys vfs.FS, temporary, name string, c *snapshotContent, stop func() error) (size int64, err error) {
	f, err := fsys.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", name, err)
	}
	w := &fileWriter{f: f}
	if err = c.writeTo(w, stop); err == nil {
		if err = f.Sync(); err != nil {
			err = fmt.Errorf("%w: %w", errUnsynced, err)
		}
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(temporary, name)
	}
	if err != nil {
		// What is left of it is removed at the next start if it cannot be now.
		return 0, errors.Join(fmt.Errorf("write %s: %w", name, err), ignoreMissing(fsys.Remove(temporary)))
	}
	return w.pos, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// errNotWhole: a snapshot is damaged, cut off or not one at all. An error of the disk
// is another one: the next read may succeed.
var errNotWhole = errors.New("it is not a whole snapshot")

// walkSnapshot reads a snapshot batch by batch, one in memory at a time. It is an error
// if a batch is damaged, if it does not begin with a header or does not end with a
// footer; then each may have been called for batches before.
func walkSnapshot(fsys vfs.FS, name string, each func(h *batch.Header, b []byte) error) error {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", name, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err == nil {
		err = walkBatches(f, size, each)
	}
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", name, err)
	}
	return nil
}

func walkBatches(f io.ReaderAt, size int64, each func(h *batch.Header, b []byte) error) error {
	var b []byte
	first, last, next := metadata.ControlType(-1), metadata.ControlType(-1), int64(0)
	for pos := int64(0); pos < size; {
		var head [batch.Overhead]byte
		if size-pos < int64(len(head)) {
			return errNotWhole
		}
		if _, err := f.ReadAt(head[:], pos); err != nil {
			return err
		}
		n := int64(len(head)) + int64(int32(binary.BigEndian.Uint32(head[8:])))
		if n < batch.HeaderBytes || n > size-pos {
			return errNotWhole
		}
		b = slices.Grow(b[:0], int(n))[:n]
		if read, err := f.ReadAt(b, pos); read < len(b) {
			return err
		}
		h, err := batch.Parse(b)
		if err == nil {
			err = batch.CheckCRC(&h, b)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errNotWhole, err)
		}
		if h.BaseOffset != next {
			return fmt.Errorf("%w: offset %d where %d belongs", errNotWhole, h.BaseOffset, next)
		}
		last = -1
		if h.Control() {
			if err := controlRecords(&h, b, func(t metadata.ControlType, _ []byte) error {
				if last = t; pos == 0 && first < 0 {
					first = t
				}
				return nil
			}); err != nil {
				return fmt.Errorf("%w: %w", errNotWhole, err)
			}
		}
		if err := each(&h, b); err != nil {
			return err
		}
		next, pos = h.LastOffset()+1, pos+n
	}
	if first != metadata.ControlSnapshotHeader || last != metadata.ControlSnapshotFooter {
		return errNotWhole
	}
	return nil
}

// controlRecords calls each for the records of a control batch of a metadata log.
func controlRecords(h *batch.Header, b []byte, each func(t metadata.ControlType, value []byte) error) error {
	if !h.Control() {
		return nil
	}
	return batch.Records(b, journalBatchBytes*8, func(r batch.Record) error {
		t, err := metadata.DecodeControlKey(r.Key)
		if err != nil {
			return err
		}
		return each(t, r.Value)
	})
}
