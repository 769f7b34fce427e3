package inspect

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// harmless says why a change of a file's bytes at a position cannot or need not be found,
// "" if it must be. Everything else that is changed must lead to a finding.
func harmless(name string, old, b []byte, pos int) string {
	base := filepath.Base(name)
	switch {
	case base == metaPropertiesFile && bytes.HasPrefix(line(old, pos), []byte("#")):
		return "a comment, or what was one"
	case base == metaPropertiesFile && bytes.HasPrefix(line(old, pos), []byte("cluster.id=")) && bytes.HasPrefix(line(b, pos), []byte("cluster.id")):
		return "nothing else in a directory knows the cluster's id"
	case strings.HasPrefix(base, partitionFile) && pos == len(old)-1, base == metaPropertiesFile && bytes.HasPrefix(line(old, pos), []byte("directory.id=")) && pos+1 == end(old, pos):
		return "22 characters of base64 are 132 bits, an id has 128"
	case base == cleanShutdownFile && pos > bytes.LastIndexByte(old, ':'):
		return "nothing else knows the broker epoch of the last stop"
	case base == cleanerFile && pos > bytes.LastIndexByte(old, ' '):
		return "how far a log is compacted, nothing else knows"
	case strings.HasSuffix(base, "checkpoint") && pos == len(old)-1:
		return "the last line may end as it likes"
	case base == quorumStateFile:
		return "votes are nowhere else; what is checked is that it can be read and its epoch is not too low"
	case strings.HasPrefix(name, "cut-0/00000000000000000000.log") && at(old, pos) >= 12 && at(old, pos) < 16:
		return "the leader epoch of records that were deleted"
	case strings.HasPrefix(name, "__consumer_offsets-") && strings.HasSuffix(base, logSuffix) && at(old, pos) < 8:
		return "the base offset is outside the crc, and in a compacted log any that goes forward can be"
	}
	return ""
}

func begin(b []byte, pos int) int { return bytes.LastIndexByte(b[:min(pos, len(b))], '\n') + 1 }

func end(b []byte, pos int) int {
	if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
		return pos + i
	}
	return len(b)
}

func line(b []byte, pos int) []byte { return b[begin(b, pos):end(b, min(pos, len(b)))] }

// at is where in its batch a byte of a segment stands.
func at(b []byte, pos int) int {
	from := 0
	for next := 0; next <= pos; next += 12 + int(be32(b[next+8:])) {
		from = next
	}
	return pos - from
}

// around is what to check for a change of a file: its partition, or all.
func (r *rig) around(name string) string {
	if dir := filepath.Dir(name); dir != "." && !strings.HasPrefix(dir, metadataDir) {
		return filepath.Join(r.dir, dir)
	}
	return r.dir
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	r := newRig(t)
	stride := 5 // in bits; odd, so that all bits of a byte are met
	if testing.Short() {
		stride = 11
	}
	flips, excused := 0, map[string]int{}
	for _, name := range r.files() {
		old := r.get(name)
		for i := flips % stride; i < 8*len(old); i += stride {
			pos, bit := i/8, i%8
			b := bytes.Clone(old)
			b[pos] ^= 1 << bit
			r.put(name, b)
			flips++
			if found, _ := r.check(r.around(name)); len(found) == 0 {
				if why := harmless(name, old, b, pos); why != "" {
					excused[why]++
					continue
				}
				t.Errorf("%s: bit %d of byte %d flipped (%#x): nothing was found", name, bit, pos, old[pos])
			}
		}
		r.put(name, old)
	}
	for why, n := range excused {
		t.Logf("%5d not found: %s", n, why)
	}
	t.Logf("%d flips", flips)
}

func TestEveryTruncationIsFound(t *testing.T) {
	r := newRig(t)
	stride := 2
	if testing.Short() {
		stride = 5
	}
	for _, name := range r.files() {
		old := r.get(name)
		for n := 0; n < len(old); n += stride {
			r.put(name, old[:n])
			if found, _ := r.check(r.around(name)); len(found) > 0 {
				continue
			}
			switch base := filepath.Base(name); {
			case strings.HasSuffix(base, indexSuffix) && n%8 == 0:
				// An offset index with fewer entries is a slower one.
			case base == epochFile && n == 0 && len(old) == 4:
				// There were no epochs.
			case base == cleanShutdownFile && n == 0:
				// Kafkas before 3.6 leave it empty.
			case base == metaPropertiesFile && (bytes.HasPrefix(line(old, n), []byte("#")) || bytes.HasPrefix(line(old, n), []byte("cluster.id="))):
				// The cluster's id is nowhere else.
			case strings.HasSuffix(base, "checkpoint") && n == len(old)-1:
				// The newline at the end.
			case base == partitionFile && n > 0 && bytes.HasPrefix(old[n-1:], []byte("\nrotpeter_crc32c: ")):
				// The line that seals it; Kafka writes none.
			case (base == logStartFile || base == epochFile) && bytes.Equal(bytes.TrimSpace(old[:n]), bytes.TrimSpace(old)):
				// The white space that seals the last line; Kafka writes none.
			default:
				t.Errorf("%s: cut off at %d of %d bytes: nothing was found", name, n, len(old))
			}
		}
		r.put(name, old)
	}
}

func TestSwappedEntriesAreFound(t *testing.T) {
	r := newRig(t)
	for _, name := range r.files() {
		old := r.get(name)
		size := map[string]int{indexSuffix: 8, timeIndexSuffix: 12, txnIndexSuffix: 34, snapshotSuffix: 46}[filepath.Ext(name)]
		from := 0
		if filepath.Ext(name) == snapshotSuffix {
			from = 10
		}
		switch {
		case size > 0:
			for at := from; at+2*size <= len(old); at += size {
				r.swapped(name, old, at, at+size, at+2*size)
			}
		case filepath.Ext(name) == logSuffix || filepath.Ext(name) == checkpointSuffix:
			for at := 0; ; {
				mid := at + 12 + int(be32(old[at+8:]))
				if mid >= len(old) {
					break
				}
				r.swapped(name, old, at, mid, mid+12+int(be32(old[mid+8:])))
				at = mid
			}
		case filepath.Base(name) == epochFile && bytes.Count(old, []byte("\n")) > 3:
			first := 4
			second := end(old, first) + 1
			r.swapped(name, old, first, second, end(old, second)+1)
		}
		r.put(name, old)
	}
}

// swapped puts two neighbours of a file in the wrong order.
func (r *rig) swapped(name string, old []byte, a, b, c int) {
	r.t.Helper()
	if bytes.Equal(old[a:b], old[b:c]) {
		return // the last batch has two
	}
	r.put(name, bytes.Join([][]byte{old[:a], old[b:c], old[a:b], old[c:]}, nil))
	if found, _ := r.check(r.around(name)); len(found) == 0 {
		r.t.Errorf("%s: entries at %d and %d swapped: nothing was found", name, a, b)
	}
}

func TestEveryMissingFileIsFound(t *testing.T) {
	r := newRig(t)
	for _, name := range r.files() {
		old := r.get(name)
		r.must(r.fs.Remove(filepath.Join(r.dir, name)))
		found, _ := r.check()
		r.put(name, old)
		base := filepath.Base(name)
		if len(found) > 0 || strings.HasSuffix(base, snapshotSuffix) || // made again from the batches
			strings.HasSuffix(base, checkpointSuffix) || base == cleanerFile || // of no use while the log is whole, and made again
			strings.HasPrefix(name, "old-0/") && base == epochFile { // there were none before message format 2
			continue
		}
		t.Errorf("%s is missing: nothing was found", name)
	}
}

// What is found has the grade that says what it costs, and names the place.
func TestFindingsNameThePlace(t *testing.T) {
	for _, tc := range []struct {
		file string
		pos  int
		want string
	}{
		{"plain-0/00000000000000000026.log", 100, "damage"},
		{"plain-0/00000000000000000026.index", 3, "derived"},
		{"plain-0/00000000000000000026.timeindex", 3, "derived"},
		{"txn-0/00000000000000000022.txnindex", 9, "derived"},
		{"txn-0/00000000000000000022.snapshot", 20, "derived"},
		{"plain-0/leader-epoch-checkpoint", 4, "derived"},
		{"recovery-point-offset-checkpoint", 1, "derived"},
		{"meta.properties", 60, "damage"},
		{metadataDir + "/00000000000000000004-0000000003.checkpoint", 80, "damage"},
	} {
		r := newRig(t)
		b := r.get(tc.file)
		b[tc.pos] ^= 0x40
		r.put(tc.file, b)
		found, sum := r.check()
		ok := false
		for _, f := range found {
			ok = ok || f.Grade.String() == tc.want && f.Do != "" && f.What != ""
		}
		if !ok || sum.Sound() {
			t.Errorf("%s: %s", tc.file, fmt.Sprint(found))
		}
	}
}
