package inspect

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

// metadataDir is the directory of the metadata log.
const metadataDir = metadata.ClusterMetadataTopic + "-0"

// snapshotOf reads the name of a snapshot of the metadata log: its end offset and epoch.
func snapshotOf(name string) (offset int64, epoch int32, ok bool) {
	text, found := strings.CutSuffix(name, checkpointSuffix)
	a, b, dash := strings.Cut(text, "-")
	if !found || !dash || len(a) != 20 || len(b) != 10 {
		return 0, 0, false
	}
	offset, err := strconv.ParseInt(a, 10, 64)
	e, err2 := strconv.ParseInt(b, 10, 32)
	return offset, int32(e), err == nil && err2 == nil && offset >= 0 && e >= 0
}

// readCluster replays the metadata log, from its last snapshot on. What is wrong with it is
// found when it is checked like other logs; here it only ends the replay.
func (c *checker) readCluster() *cluster {
	for _, d := range c.dirs {
		dir := filepath.Join(d.path, metadataDir)
		list, err := c.FS.ReadDir(dir)
		if err != nil {
			continue
		}
		r := replayer{cluster: newCluster()}
		var bases, snapshots []int64
		names := map[int64]string{}
		for _, e := range list {
			if base, suffix, ok := log.FileOffset(e.Name()); ok && suffix == logSuffix {
				bases = append(bases, base)
			}
			if offset, _, ok := snapshotOf(e.Name()); ok {
				snapshots, names[offset] = append(snapshots, offset), e.Name()
			}
		}
		slices.Sort(bases)
		slices.Sort(snapshots)
		complete := len(bases) > 0 && bases[0] == 0
		if n := len(snapshots); n > 0 && !complete {
			complete = r.file(c, filepath.Join(dir, names[snapshots[n-1]]))
			r.from = snapshots[n-1]
		}
		for _, base := range bases {
			complete = complete && r.file(c, filepath.Join(dir, segmentFile(base, logSuffix)))
		}
		r.cluster.known = complete && !r.cluster.full && !d.inUse
		return r.cluster
	}
	return newCluster()
}

// replayer applies records of the metadata log.
type replayer struct {
	cluster *cluster
	from    int64 // offsets below are in the snapshot
	reader  batchReader
	decoder batch.Decoder
	pending []metadata.Message // of an open transaction, which may be aborted (KIP-868)
	inTxn   bool
}

// maxPending bounds the records of a transaction that are kept.
const maxPending = 1 << 20

// file replays one file. False if not all of it could be read.
func (r *replayer) file(c *checker, name string) bool {
	f, size, err := open(c.FS, name)
	if err != nil {
		return false
	}
	defer f.Close()
	r.reader.reset(f, size)
	for {
		e, err := r.reader.next()
		if err != nil {
			return size == r.reader.pos || errors.Is(err, errBroken)
		}
		if e.magic != batch.Magic || e.wrong != nil || e.whole == nil {
			return false
		}
		if e.h.Control() || e.h.BaseOffset < r.from {
			continue
		}
		err = r.decoder.Records(e.whole, maxWholeBytes, func(rec batch.Record) error {
			m, _, err := metadata.DecodeRecord(rec.Value)
			if err == nil {
				r.apply(m)
			}
			return err
		})
		if err != nil {
			return false
		}
	}
}

func (r *replayer) apply(m metadata.Message) {
	switch m.(type) {
	case *metadata.BeginTransactionRecord:
		r.inTxn = true
	case *metadata.AbortTransactionRecord:
		r.inTxn, r.pending = false, nil
	case *metadata.EndTransactionRecord:
		for _, m := range r.pending {
			r.cluster.apply(m)
		}
		r.inTxn, r.pending = false, nil
	default:
		switch {
		case !r.inTxn:
			r.cluster.apply(m)
		case len(r.pending) < maxPending:
			r.pending = append(r.pending, m)
		default:
			r.cluster.full = true
		}
	}
}
