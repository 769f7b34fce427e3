package inspect

import (
	"bytes"
	"compress/gzip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rotpeter/rotpeter/log/batch"
)

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWhatTheLogWritesIsSound(t *testing.T) {
	r := newRig(t)
	found, sum := r.check()
	for _, f := range found {
		t.Error(f)
	}
	if sum.Partitions != 6 || sum.Segments < 8 || sum.Batches < 60 || sum.Records < 150 || !sum.Sound() {
		t.Errorf("%+v", sum)
	}
	for _, name := range r.files() {
		t.Log(name, len(r.get(name)))
	}
}

// A group coordinator writes offsets of a transaction under its producer's id,
// without a sequence. In a topic of users that is damage.
func TestOffsetsOfATransactionHaveNoSequence(t *testing.T) {
	for _, k := range []struct {
		topic         string
		transactional bool
		damage        bool
	}{{"__consumer_offsets", true, false}, {"__consumer_offsets", false, true}, {"plain", true, true}} {
		r := newRig(t)
		o := batch.Options{ProducerID: 40, ProducerEpoch: 2, BaseSequence: batch.NoSequence, Transactional: k.transactional, LeaderEpoch: 0}
		key := append([]byte{0, 1, 0, 1, 'g', 0, 1, 't'}, 0, 0, 0, 0)
		value := append([]byte{0, 3}, make([]byte, 8+4+2+8)...)
		b := r.build(o, []batch.Message{{Timestamp: 5, Key: key, Value: value}})
		r.must(r.fs.MkdirAll(filepath.Join(r.dir, k.topic+"-7"), 0o700))
		r.put(k.topic+"-7/"+segmentFile(0, logSuffix), b)
		found, _ := r.check()
		says := slices.ContainsFunc(found, func(f Finding) bool {
			return f.Grade == Damage && strings.Contains(f.String(), "producer 40 with epoch 2 and sequence -1")
		})
		if says != k.damage {
			t.Errorf("%s, transactional %v: found %v", k.topic, k.transactional, found)
		}
	}
}
