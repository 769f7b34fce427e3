package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/rotpeter/rotpeter/log/batch"
)

// abortedBytes is the size of a transaction index entry (AbortedTxn): version i16,
// producer id, first offset, last offset, last stable offset, each i64.
const abortedBytes = 2 + 4*8

// abortedTxn is an aborted transaction, kept in the segment that holds its marker.
type abortedTxn struct {
	producerID              int64
	firstOffset, lastOffset int64 // lastOffset is the marker's
	stable                  int64 // the last stable offset after the marker
}

// AbortedTxn tells a read_committed reader to skip the producer's records from
// FirstOffset to its next abort marker.
type AbortedTxn struct{ ProducerID, FirstOffset int64 }

func appendAborted(b []byte, entries []abortedTxn) []byte {
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint64(b, uint64(e.producerID))
		b = binary.BigEndian.AppendUint64(b, uint64(e.firstOffset))
		b = binary.BigEndian.AppendUint64(b, uint64(e.lastOffset))
		b = binary.BigEndian.AppendUint64(b, uint64(e.stable))
	}
	return b
}

func decodeAborted(b []byte) abortedTxn {
	return abortedTxn{
		producerID: int64(binary.BigEndian.Uint64(b[2:])), firstOffset: int64(binary.BigEndian.Uint64(b[10:])),
		lastOffset: int64(binary.BigEndian.Uint64(b[18:])), stable: int64(binary.BigEndian.Uint64(b[26:])),
	}
}

// parseAborted reads a transaction index file. Error: errDoubt.
func parseAborted(b []byte, baseOffset int64) ([]abortedTxn, error) {
	if len(b)%abortedBytes != 0 {
		return nil, fmt.Errorf("%w: transaction index has %d bytes", errDoubt, len(b))
	}
	entries := make([]abortedTxn, 0, len(b)/abortedBytes)
	for ; len(b) > 0; b = b[abortedBytes:] {
		e := decodeAborted(b)
		n := len(entries)
		if binary.BigEndian.Uint16(b) != 0 || e.lastOffset < baseOffset || e.firstOffset > e.lastOffset || n > 0 && e.lastOffset <= entries[n-1].lastOffset {
			return nil, fmt.Errorf("%w: transaction entry %d %+v", errDoubt, n, e)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// collectAborted appends the transactions that touch [from, upper). done tells that
// later segments have nothing to add (TransactionIndex.collectAbortedTxns).
func collectAborted(dst []AbortedTxn, entries []abortedTxn, from, upper int64) (out []AbortedTxn, done bool) {
	for _, e := range entries {
		if e.lastOffset >= from && e.firstOffset < upper {
			dst = append(dst, AbortedTxn{e.producerID, e.firstOffset})
		}
		if e.stable >= upper {
			return dst, true
		}
	}
	return dst, false
}

// abortedTxns gives the transaction index; most segments have none. One that is damaged is
// made again from the batches.
func (g *segment) abortedTxns() (*growing[abortedTxn], error) {
	if a := g.aborted.Load(); a != nil {
		return a, nil
	}
	entries, err := g.readAborted()
	again := errors.Is(err, errDoubt)
	if again {
		entries, err = g.remakeAborted(err)
	}
	if err != nil {
		return nil, g.failed("read transaction index", err)
	}
	fresh := new(growing[abortedTxn])
	for _, e := range entries {
		fresh.add(e)
	}
	if !g.aborted.CompareAndSwap(nil, fresh) {
		return g.aborted.Load(), nil
	}
	if again {
		return fresh, g.rewriteAborted(len(entries))
	}
	return fresh, nil
}

// readAborted reads the transaction index and holds it against the batches that it
// speaks of: nothing else protects it, and a wrong entry would hide records from
// read_committed readers, or show them aborted ones. Error: errDoubt, or the disk's.
func (g *segment) readAborted() ([]abortedTxn, error) {
	b, err := readFile(g.l.store.fs, g.path(txnIndexSuffix), maxIndexBytes)
	if err := g.current(); err != nil {
		return nil, err
	}
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := parseAborted(b, g.base)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	f, err := g.open()
	if err != nil {
		return nil, err
	}
	defer f.release()
	w := g.l.store.windows.Get()
	defer g.l.store.windows.Put(w)
	for i := range entries {
		if err := checkStable(entries, i); err != nil {
			return nil, err
		}
		if err := g.checkAborted(f, &entries[i], w[:]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// checkStable holds an entry's last stable offset, which ends a search, against what is
// known of it: no transaction was open before it when this one had ended.
func checkStable(entries []abortedTxn, i int) error {
	e := &entries[i]
	ok := e.stable >= 0 && e.stable <= e.lastOffset+1
	for j := i + 1; ok && j < len(entries); j++ {
		ok = entries[j].firstOffset >= min(e.stable, e.lastOffset)
	}
	if !ok {
		return fmt.Errorf("%w: the last stable offset after %d cannot have been %d", errDoubt, e.lastOffset, e.stable)
	}
	return nil
}

// checkAborted looks for the marker that ended a transaction, and for its first batch
// where that is in this segment and compaction cannot have removed it. What lies in
// damage is not judged.
func (g *segment) checkAborted(f io.ReaderAt, e *abortedTxn, buf []byte) error {
	h, pos, err := g.find(f, e.lastOffset, g.size.Load(), buf)
	var bad *brokenAt
	switch {
	case errors.As(err, &bad):
		return nil
	case err != nil && err != io.EOF:
		return err
	case len(g.holes()) > 0:
		return nil
	}
	if err == nil {
		var m *marker
		m, err = readMarker(f, &h, pos)
		if err != nil && !errors.Is(err, errTorn) {
			return err
		}
		if err == nil && (m == nil || m.commit || h.BaseOffset != e.lastOffset || h.ProducerID != e.producerID) {
			err = errors.New("there is another batch")
		}
	}
	if err != nil {
		return fmt.Errorf("%w: the transaction of producer %d that begins at offset %d has no abort marker at %d: %w", errDoubt, e.producerID, e.firstOffset, e.lastOffset, err)
	}
	if e.firstOffset < g.base {
		return g.checkOpenAtBase(e)
	}
	if g.l.config.Load().Compact || g.base < g.l.compactedTo() {
		return nil
	}
	h, _, err = g.find(f, e.firstOffset, g.size.Load(), buf)
	if err == nil && (h.BaseOffset != e.firstOffset || h.ProducerID != e.producerID || !h.Transactional() || h.Control()) {
		return fmt.Errorf("%w: the aborted transaction of producer %d does not begin at offset %d", errDoubt, e.producerID, e.firstOffset)
	}
	if errors.As(err, &bad) || err == io.EOF {
		return nil
	}
	return err
}

// checkOpenAtBase asks the producer snapshot at the segment's base whether the transaction
// was open there.
func (g *segment) checkOpenAtBase(e *abortedTxn) error {
	ps := g.l.producersAt(g.base)
	if ps == nil && e.firstOffset >= 0 {
		return nil
	}
	if ps != nil {
		if p := ps.byID[e.producerID]; p != nil && p.txnFirst == e.firstOffset {
			return nil
		}
	}
	return fmt.Errorf("%w: no transaction of producer %d was open from offset %d on at the segment's base %d", errDoubt, e.producerID, e.firstOffset, g.base)
}

// compactedTo is the offset up to which compaction has left gaps.
func (l *Log) compactedTo() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cleaned
}

// remakeAborted replays the segment's transactions. It needs the producers as they were
// at the segment's base.
func (g *segment) remakeAborted(why error) ([]abortedTxn, error) {
	ps := g.l.producersAt(g.base)
	if ps == nil && (*g.l.segments.Load())[0] != g {
		return nil, why
	}
	if ps == nil {
		ps = newProducers()
	}
	g.l.store.slog.Warn("making the transaction index of a segment again", "log", g.l.place().String(), "segment", g.base, "reason", why)
	var entries []abortedTxn
	err := g.each(0, func(f io.ReaderAt, h *batch.Header, pos int64) error {
		m, err := readMarker(f, h, pos)
		if errors.Is(err, errTorn) {
			return nil // it is told of where it is read
		}
		if err != nil || !h.HasProducer() {
			return err
		}
		if done := ps.apply(h, m); done != nil && done.aborted {
			entries = append(entries, ps.abortedBy(done))
		}
		return nil
	})
	return entries, err
}

// rewriteAborted has the janitor write the index that was made again.
func (g *segment) rewriteAborted(entries int) error {
	if entries == 0 {
		g.l.removeQuietly(g.path(txnIndexSuffix))
	}
	if g == g.l.active() {
		return nil // it is written when the segment is sealed
	}
	why := fmt.Errorf("%w: with the transaction index", errDoubt)
	_, err := g.rebuild(why)
	return err
}
