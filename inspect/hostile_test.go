package inspect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

func valid(b []byte) bool { return json.Valid(b) }

// What hostile files may make a process take. A check holds the buffers of two to four
// workers; a record that is printed is held as JSON, too.
const (
	checkRSS = 320 << 20
	dumpRSS  = 512 << 20
)

// hostileChild is set in the process that looks at the hostile directory.
const hostileChild = "ROTPETER_HOSTILE_DIR"

// Files that lie about sizes and counts do not make the reader take memory: measured from
// outside, as the largest resident set of a process that checks and dumps all of them.
func TestHostileFilesTakeNoMemory(t *testing.T) {
	if dir := os.Getenv(hostileChild); dir != "" {
		lookAt(t, dir)
		return
	}
	if testing.Short() {
		t.Skip("writes and reads a GiB")
	}
	dir := t.TempDir()
	hostile(t, dir)
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^TestHostileFilesTakeNoMemory$")
	cmd.Env = append(os.Environ(), hostileChild+"="+dir)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

func lookAt(t *testing.T, dir string) {
	debug.SetGCPercent(GCPercent)
	sum, err := Check(Options{FS: vfs.OS(), Dirs: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Damage == 0 {
		t.Errorf("%+v", sum)
	}
	checked := largest(t)
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && info.Size() < 300<<20 { // sparse ones print for minutes
			_ = Dump(io.Discard, DumpOptions{FS: vfs.OS(), Records: true, JSON: true}, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	dumped := largest(t)
	t.Logf("largest resident set of check %d MiB, of check and dump %d MiB", checked>>20, dumped>>20)
	if checked > checkRSS || dumped > dumpRSS {
		t.Errorf("at most %d and %d MiB are allowed", checkRSS>>20, dumpRSS>>20)
	}
}

// largest is the largest resident set of this process in bytes. (That of getrusage counts the
// process that started it.)
func largest(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc here")
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// hostile makes a directory whose files say more than they hold.
func hostile(t *testing.T, dir string) {
	t.Helper()
	put := func(name string, b []byte, size int64) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if size > 0 {
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
		}
	}
	log0 := segmentFile(0, logSuffix)
	put("huge-0/"+log0, header(300<<20, 0), 300<<20+12) // a batch of 300 MiB with a wrong crc
	put("large-0/"+log0, sealed(append(header(100<<20, 1), make([]byte, 100<<20-49)...)), 0)
	put("whole-0/"+log0, sealed(append(header(50<<20, 1), make([]byte, 50<<20-49)...)), 0)
	put("__consumer_offsets-0/"+log0, bomb(t, 250<<20), 0)
	put("__consumer_offsets-1/"+log0, internal(t, []byte{0, 2, 0, 1, 'g'}, members(40<<20)), 0)
	put("__consumer_offsets-2/"+log0, internal(t, []byte{0, 2, 0, 1, 'g'}, members(maxDecoded)), 0)
	put(metadataDir+"/"+log0, internal(t, nil, append([]byte{1, 3, 1, 0, 0, 0, 1}, bytes.Repeat([]byte{0xff}, 40<<20)...)), 0)
	put("index-0/"+log0, nil, 0)
	put("index-0/"+segmentFile(0, indexSuffix), bytes.Repeat([]byte{0, 0, 0, 1}, 100<<18), 1<<30)
	put("index-0/"+segmentFile(0, snapshotSuffix), []byte{0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 1<<30)
	put(metaPropertiesFile, bytes.Repeat([]byte("a=b\n"), 1<<20), 0)
	put(recoveryPointFile, lines("a %d 1\n", 700_000), 0)
	put(logStartFile, lines("topic-%d 1 1\n", 400_000), 0)
	put("large-0/"+epochFile, lines("%[1]d %[1]d\n", 500_000), 0)
	put(metadataDir+"/"+quorumStateFile, []byte(strings.Repeat("[", 7<<20)), 0)
}

func lines(format string, n int) []byte {
	b := fmt.Appendf(nil, "0\n%d\n", n)
	for i := range n {
		b = fmt.Appendf(b, format, i)
	}
	return b
}

// header is that of a batch with a length and a number of records.
func header(length, count int32) []byte {
	b := make([]byte, batch.HeaderBytes)
	binary.BigEndian.PutUint32(b[8:], uint32(length))
	b[16] = batch.Magic
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	for i := 43; i < 57; i++ { // no producer
		b[i] = 0xff
	}
	return b
}

func sealed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-batch.Overhead))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func internal(t *testing.T, key, value []byte) []byte {
	t.Helper()
	var e batch.Encoder
	b, err := e.Append(nil, batch.Plain(), []batch.Message{{Key: key, Value: value}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bomb is a small batch whose value is large and empty.
func bomb(t *testing.T, size int) []byte {
	t.Helper()
	o := batch.Plain()
	o.Codec = batch.Zstd
	var e batch.Encoder
	b, err := e.Append(nil, o, []batch.Message{{Key: []byte{0, 2, 0, 1, 'g'}, Value: make([]byte, size)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// members is the metadata of a group with as many empty members as bytes allow.
func members(size int) []byte {
	b := []byte{0, 0, 0, 8}
	b = append(b, "consumer"...)
	b = append(b, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff)
	n := (size - len(b) - 4) / 18
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return append(b, make([]byte, 18*n)...)
}
