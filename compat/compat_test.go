package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A line of the corpus comes back as it was, or quoted where a tool that reads
// lines would not give it back.
func TestFrameLine(t *testing.T) {
	for in, want := range map[string]string{
		"":             "0000012=",
		"\ttabs\tstay": "0000012=\ttabs\tstay",
		"ünïcode":      "0000012=ünïcode",
		"a\rb":         `0000012q"a\rb"`,
		"\xff":         `0000012q"\xff"`,
		"sep\x1f":      `0000012q"sep\x1f"`,
	} {
		if got := string(frameLine(12, []byte(in))); got != want {
			t.Errorf("frameLine(12, %q) = %q, want %q", in, got, want)
		}
	}
}

// readings is what a reader of a corpus of 2 files of 3 lines may see.
func readings(t *testing.T) (*corpus, []record) {
	c, err := smallCorpus(filepath.Join(t.TempDir(), "corpus"), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	var rs []record
	for p, key := range c.keys {
		for i := range 3 {
			rs = append(rs, record{Partition: int32(p), Offset: int64(i), Key: []byte(key), Value: frameLine(i+1, []byte("a line"))})
		}
	}
	return c, rs
}

// The tally tells what real brokers and clients get wrong.
func TestTally(t *testing.T) {
	for _, k := range []struct {
		name      string
		change    func([]record) []record
		mayRepeat bool
		want      string // part of the complaint, empty = none
	}{
		{"all well", func(rs []record) []record { return rs }, false, ""},
		{"another order of partitions", func(rs []record) []record { slices.Reverse(rs); return rs }, false, ""},
		{"lost", func(rs []record) []record { return rs[1:] }, false, "1 of 6 lines were not read"},
		{"read twice", func(rs []record) []record { return append(rs, rs[0]) }, false, "1 records were read twice"},
		{"read twice, as it may", func(rs []record) []record { return append(rs, rs[0]) }, true, ""},
		{"written twice", func(rs []record) []record { r := rs[0]; r.Offset = 9; return append(rs, r) }, true, "in the log twice"},
		{"out of order", func(rs []record) []record { rs[0].Offset, rs[1].Offset = 1, 0; return rs }, false, "line 1 of made/up/00 is at partition 0 offset 1"},
		{"in two partitions", func(rs []record) []record { rs[1].Partition = 7; return rs }, false, "at partition 7"},
		{"altered", func(rs []record) []record { rs[2].Value = []byte("0000003=another line"); return rs }, false, "SHA-256"},
		{"made up", func(rs []record) []record {
			return append(rs, record{Key: []byte("nobody"), Value: []byte("0000001=")})
		}, false, "never written"},
	} {
		t.Run(k.name, func(t *testing.T) {
			c, rs := readings(t)
			tally := newTally(c)
			for _, r := range k.change(rs) {
				tally.add(r.Partition, r.Offset, r.Key, r.Value)
			}
			err := tally.verdict(k.mayRepeat)
			if k.want == "" && err != nil || k.want != "" && (err == nil || !strings.Contains(err.Error(), k.want)) {
				t.Errorf("verdict: %v, want %q", err, k.want)
			}
		})
	}
}

func TestSameByKeyTellsLossAndDisorder(t *testing.T) {
	written := sample()
	for i := range written {
		written[i].Partition, written[i].Offset = int32(i%60%checkPartitions), int64(i)
	}
	if err := sameByKey(sample(), written); err != nil {
		t.Errorf("what was written is not the same: %v", err)
	}
	if err := sameByKey(sample(), written[1:]); err == nil {
		t.Error("a lost record was not told")
	}
	written[0].Offset, written[60].Offset = written[60].Offset, written[0].Offset
	if err := sameByKey(sample(), written); err == nil {
		t.Error("two values of a key in the wrong order were not told")
	}
}

func TestParsersOfToolOutput(t *testing.T) {
	want := record{Partition: 3, Offset: 41, Timestamp: 1700000000000, Key: []byte("k"), Headers: []header{{"a", []byte("1")}, {"b", []byte("2")}}}
	for name, parse := range map[string]func() (record, error){
		"kcat": func() (record, error) {
			return parseKcat([]byte("3\x1f41\x1f1700000000000\x1f1\x1fk\x1f-1\x1f\x1fa=1,b=2"))
		},
		"console": func() (record, error) {
			return parseConsole([]byte("CreateTime:1700000000000\x1fPartition:3\x1fOffset:41\x1fa:1\x1db:2\x1fk\x1f" + javaNullMarker))
		},
	} {
		got, err := parse()
		if err != nil || got.Partition != want.Partition || got.Offset != want.Offset || got.Timestamp != want.Timestamp {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err := sameRecords([]record{want}, []record{got}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, line := range []string{"3\x1f41\x1fk\x1fv\n", "Partition:3\x1fOffset:41\x1fk\x1fv\n"} {
		p, o, key, value, err := parseDrained([]byte(line))
		if p != 3 || o != 41 || string(key) != "k" || string(value) != "v" || err != nil {
			t.Errorf("%q: %d %d %q %q %v", line, p, o, key, value, err)
		}
	}
	if _, err := parseKcat([]byte("3\x1f41")); err == nil {
		t.Error("half a line of kcat was taken")
	}
}

// What kafka-dump-log says of gaps is a complaint where nothing is compacted, but for the first
// offset of a segment.
func TestComplaints(t *testing.T) {
	const times = "Found timestamp mismatch in :/d/%s/00000000000000000000.timeindex\n  Index timestamp: 5, log timestamp: %d\n"
	compacted := func(file string) bool { return strings.Contains(file, "compacted-") }
	for said, left := range map[string]bool{
		"":                                    false,
		fmt.Sprintf(times, "compacted-0", -1): false,
		fmt.Sprintf(times, "compacted-0", 4):  true,
		fmt.Sprintf(times, "a-0", -1):         true,
		"Exception in thread\n  at X\n":       true,
		"Non-consecutive offsets in /d/a-0/00000000000000000007.log\n  -1 is followed by 7\n":                               false,
		"Non-consecutive offsets in /d/a-0/00000000000000000007.log\n  -1 is followed by 8\n":                               true,
		"Non-consecutive offsets in /d/a-0/00000000000000000007.log\n  -1 is followed by 7\n  9 is followed by 12\n":        true,
		"Non-consecutive offsets in /d/compacted-0/00000000000000000000.log\n  -1 is followed by 3\n  4 is followed by 9\n": false,
		"Non-consecutive offsets in /d/compacted-0/00000000000000000000.log\n  9 is followed by 4\n":                        true,
		"Mismatches in :/d/compacted-0/00000000000000000000.index\n  Index offset: 0, log offset: 9\n":                      true,
	} {
		if got := complaints(said, compacted); (got != "") != left {
			t.Errorf("of %q it leaves %q", said, got)
		}
	}
}

// Two views differ by the lines that only one of them has, as often as it has them.
func TestDifferences(t *testing.T) {
	if got := differences("a\nb\nb", "b\na\nb"); got != "" {
		t.Errorf("the same lines differ: %s", got)
	}
	if got, want := differences("a\nb\nb", "b\nc"), "- a\n- b\n+ c"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := differences(strings.Repeat("a\n", 3*differencesShown), ""); !strings.HasSuffix(got, "and 80 more") {
		t.Errorf("a long diff ends with %q", got[max(0, len(got)-20):])
	}
}

// What a broker logs about its data directory is noticed, and what it always logs is not.
func TestAlarms(t *testing.T) {
	for line, alarming := range map[string]bool{
		"12:00:00.000 INFO Found a corrupted index file (LogLoader)":                                     true,
		"12:00:00.000 INFO Truncating to 5 has no effect (UnifiedLog)":                                   true,
		"12:00:00.000 WARN something (X)":                                                                true,
		"time=2026-01-01T00:00:00Z level=WARN msg=x":                                                     true,
		"12:00:00.000 INFO Loading producer state till offset 7 (UnifiedLog)":                            false,
		"12:00:00.000 INFO returned error DUPLICATE_BROKER_REGISTRATION (X)":                             false,
		"12:00:00.000 WARN [QuorumController id=1] Performing controller activation. (QuorumController)": false,
	} {
		if got := alarms.MatchString(line) && !usual.MatchString(line); got != alarming {
			t.Errorf("%q: alarming %t", line, got)
		}
	}
}

func TestDumpVerdict(t *testing.T) {
	good := "Dumping a\nbaseOffset: 0 crc: 1 isvalid: true\n| offset: 0 payload: error mismatch\n"
	if measure, err := dumpVerdict([]byte(good)); err != nil || measure != "1 files, 1 batches, 1 records" {
		t.Errorf("%q, %v", measure, err)
	}
	for _, bad := range []string{"baseOffset: 0 crc: 1 isvalid: false\n", "Mismatches in :a\n", "Exception in thread\n"} {
		if _, err := dumpVerdict([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// The same seed makes the same mutations; most still say their own length.
func TestMutate(t *testing.T) {
	frames, err := loadFrames(filepath.Join("..", "testdata", "frames"))
	if err != nil {
		t.Fatal(err)
	}
	one, two := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(1, 1))
	honest, same := 0, 0
	for i := range 1000 {
		frame := frames[i%len(frames)]
		a, b := mutate(one, frame), mutate(two, frame)
		if !bytes.Equal(a, b) {
			t.Fatalf("mutation %d differs between two runs of one seed", i)
		}
		if int(binary.BigEndian.Uint32(a)) == len(a)-4 {
			honest++
		}
		if bytes.Equal(a, withLength(frame)) {
			same++
		}
	}
	if honest < 900 || honest == 1000 || same > 100 {
		t.Errorf("of 1000 mutations %d say their own length and %d changed nothing", honest, same)
	}
}
