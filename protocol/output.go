package protocol

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/poison"
)

const (
	// sendfileBytes is the length from which a run is sent from its file. Shorter
	// ones are as cheap to copy (decision D8).
	sendfileBytes = 16 << 10

	// inlineBytes is how much of short runs one output holds in memory. Beyond it
	// they too are read only when they are sent.
	inlineBytes = 256 << 10

	// flushBytes is how much finished output may wait for more requests.
	flushBytes = 64 << 10

	// keepBytes is the largest output buffer that is used again.
	keepBytes = 1 << 20
)

// output is what is to be written to a connection: bytes, with runs cut in.
type output struct {
	buf      []byte `poison:"own"`
	cuts     []cut
	runBytes int      // sum of the cuts' runs
	inlined  int      // bytes of runs copied into buf
	releases []func() // of the responses that own the cuts' runs
	answered []answered
	charge   int64 // credit taken for buf
	copyAll  bool  // copy every run into buf
}

// answered is an observation that waits for its answer to be written.
type answered struct {
	Observation
	arrived time.Time
}

// cut is a run to be sent in front of buf[at:].
type cut struct {
	at  int
	run Run
}

// size is the number of bytes that are waiting.
func (o *output) size() int { return len(o.buf) + o.runBytes }

// answer appends the frame of one answer and returns its size.
func (o *output) answer(c *Call, row *Row, r Response) int {
	start, runs := len(o.buf), o.runBytes
	o.buf = append(o.buf, 0, 0, 0, 0)
	o.buf = putInt32(o.buf, c.CorrelationID)
	version := c.Version
	if row.Key == keyApiVersions {
		// Its answers have header v0 always, so that a client can read them before
		// it knows what the server speaks (KIP-511).
		if version < row.Min || version > row.Max {
			version = 0
		}
	} else if row.FlexibleFrom >= 0 && version >= row.FlexibleFrom {
		o.buf = append(o.buf, 0)
	}
	switch r := r.(type) {
	case *FetchResponse:
		r.Version = version
		cuts, release := len(o.cuts), r.Release
		r.appendTo(o)
		switch {
		case release == nil:
		case len(o.cuts) == cuts:
			release()
		default:
			o.releases = append(o.releases, release)
		}
	case kmsg.Response:
		r.SetVersion(version)
		o.buf = r.AppendTo(o.buf)
	default:
		o.buf = r.AppendTo(o.buf)
	}
	n := len(o.buf) - start + o.runBytes - runs
	binary.BigEndian.PutUint32(o.buf[start:], uint32(n-4))
	return n
}

// appendRecords appends a records field. It reports false, and leaves buf with a
// part of the field, if a run that is to be copied could not be read.
func (o *output) appendRecords(r *Records, flexible bool) bool {
	cuts, runBytes := len(o.cuts), o.runBytes
	n := 0
	for i := range r.Runs {
		n += r.Runs[i].length()
	}
	o.buf = putArrayLen(o.buf, n, flexible)
	for i := range r.Runs {
		if !o.appendRun(r.Runs[i]) {
			o.cuts, o.runBytes = o.cuts[:cuts], runBytes
			return false
		}
	}
	return true
}

func (o *output) appendRun(run Run) bool {
	n := run.length()
	if !o.copyAll && (n >= sendfileBytes || o.inlined+n > inlineBytes) {
		o.cuts = append(o.cuts, cut{len(o.buf), run})
		o.runBytes += n
		return true
	}
	o.inlined += n
	if run.File == nil {
		o.buf = append(o.buf, run.Data...)
		return true
	}
	at := len(o.buf)
	o.buf = slices.Grow(o.buf, n)[:at+n]
	got, _ := run.File.ReadAt(o.buf[at:], run.Off)
	return got == n
}

// takeCredit accounts for a buffer that has grown beyond what every connection may
// have. It does not wait, since an answer must leave; the next requests will.
func (o *output) takeCredit(c *Credit) {
	if n := int64(cap(o.buf)); n > flushBytes && n > o.charge {
		c.force(n - o.charge)
		o.charge = n
	}
}

// dropOutput gives back what an output holds, sent or not, and the output itself.
func (s *Server) dropOutput(o *output) {
	for i, release := range o.releases {
		o.releases[i] = nil
		release()
	}
	clear(o.cuts)
	s.credit.give(o.charge)
	o.buf, o.cuts, o.releases, o.answered = o.buf[:0], o.cuts[:0], o.releases[:0], o.answered[:0]
	o.runBytes, o.inlined, o.charge = 0, 0, 0
	if cap(o.buf) > keepBytes {
		poison.Bytes(o.buf)
		o.buf = nil
	}
	s.outputs.Put(o)
}

// length is the run's number of bytes.
func (r *Run) length() int {
	if r.File != nil {
		return r.Len
	}
	return len(r.Data)
}
