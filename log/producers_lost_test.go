package log

import (
	"strings"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/log/batch"
)

// Producers whose batches were deleted are known after a kill, too, and so is a
// transaction that began in one of them, although Kafka has deleted all snapshots at and
// below the log's start: the one of the last clean stop tells of them.
func TestProducersWithoutBatchesOutliveAKill(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		send := func(id int64, sequence int32, transactional bool) (Appended, error) {
			o := batch.Plain()
			o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = id, 3, sequence, transactional
			raw := data(o, time.Now().UnixMilli(), int(sequence), 1)
			// Not by the rig's ledger, which holds producers against the batches that are there.
			return b.must("a").Append(time.Now(), raw, AppendOptions{Verified: true, LeaderEpoch: 1})
		}
		must := func(id int64, sequence int32, transactional bool) Appended {
			t.Helper()
			done, err := send(id, sequence, transactional)
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		old := must(1, 7, false)
		begun := must(2, 0, true)
		both := must(3, 0, false)
		for i := range 40 {
			if _, err := b.must("a").Append(time.Now(), data(batch.Plain(), time.Now().UnixMilli(), i, 1), AppendOptions{LeaderEpoch: 1}); err != nil {
				t.Fatal(err)
			}
		}
		last := must(3, 1, false)
		if _, err := b.must("a").DeleteBefore(last.First - 1); err != nil {
			t.Fatal(err)
		}
		b.reopen()
		base := (*b.must("a").segments.Load())[0].base
		if base <= both.Last {
			t.Fatalf("the log begins with the segment at %d: nothing was deleted", base)
		}
		for _, name := range strings.Fields(b.files("a-0")) {
			if at, ok := offsetOf(name, snapshotSuffix); ok && at <= last.First-1 {
				if err := b.fs.Remove("data/a-0/" + name); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.kill()
		if open, ok := b.must("a").producers.firstUnstable(); !ok || open != begun.First {
			t.Errorf("the open transaction begins at %d (%t), want %d", open, ok, begun.First)
		}
		for _, sent := range []struct {
			id       int64
			sequence int32
			at       Appended
		}{{1, 7, old}, {3, 1, last}} {
			if again := must(sent.id, sent.sequence, false); !again.Duplicate || again.First != sent.at.First {
				t.Errorf("the batch of producer %d at %d, sent again, is at %d, duplicate %t", sent.id, sent.at.First, again.First, again.Duplicate)
			}
		}
		if _, err := send(1, 9, false); err == nil {
			t.Error("a gap in the sequence of a producer without batches was taken")
		}
		must(1, 8, false)
		must(3, 2, false)
	})
}
