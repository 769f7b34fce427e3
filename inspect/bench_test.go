package inspect

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
)

// BenchmarkCheck is how fast one partition is checked, whose batches hold records of 100
// bytes, in batches of 16 KiB as producers send them.
func BenchmarkCheck(b *testing.B) {
	for _, codec := range []batch.Codec{batch.None, batch.LZ4, batch.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			r := &rig{t: b, fs: vfs.NewMem(), dir: "data", now: time.UnixMilli(1_700_000_100_000)}
			s, err := log.OpenStore(r.fs, r.dir, log.Options{NewID: func() [16]byte { return id(9) }, Random: func() int64 { return 0 },
				InitialDelay: time.Hour, RetentionCheck: time.Hour, Checkpoint: time.Hour, StartCheckpoint: time.Hour, ProducerExpiration: time.Hour, ProducerExpirationCheck: time.Hour})
			r.must(err)
			l, err := s.Open("plain", 0, id(1), log.DefaultConfig())
			r.must(err)
			o := batch.Plain()
			o.Codec = codec
			ms := r.messages(160)
			for i := range ms {
				ms[i].Value = bytes.Repeat([]byte{byte(i), byte(i * 7), 'x', 'y'}, 25)
			}
			one := r.build(o, ms)
			plain := r.build(batch.Plain(), ms)
			const batches = 2000
			for range batches {
				r.append(l, bytes.Clone(one), log.AppendOptions{LeaderEpoch: 1})
			}
			r.must(s.Close())
			b.SetBytes(int64(len(plain)) * batches)
			for b.Loop() {
				if found, sum := r.check(filepath.Join(r.dir, "plain-0")); sum.Damage+sum.Derived > 0 || sum.Batches != batches {
					b.Fatal(found, sum)
				}
			}
		})
	}
}
