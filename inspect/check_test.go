package inspect

import (
	"bytes"
	"compress/gzip"
	"testing"
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
