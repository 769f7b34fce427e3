package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rotpeter/rotpeter/log"
)

// A metadata log whose beginning was deleted is completed by its newest snapshot;
// without one the broker does not start, rather than forget its topics.
func TestMetadataSnapshot(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		h.produce(cl, "kept", 3)
		id := h.b.image().Topic("kept").ID
		o := h.b.metaLog.Offsets()
		chunk, err := h.b.metaLog.Read(0, 1<<20, log.End, true)
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, chunk.Bytes)
		if _, err := chunk.Runs[0].File.ReadAt(text, chunk.Runs[0].Off); err != nil {
			t.Fatal(err)
		}
		chunk.Release()
		dir := "data/__cluster_metadata-0/"
		name := fmt.Sprintf("%s%020d-%010d.checkpoint", dir, o.End, o.LeaderEpoch)
		for file, content := range map[string][]byte{
			name:                              text,
			dir + offsetName(1, "checkpoint"): []byte("older than the log's start: not looked at"),
			name + ".part":                    []byte("not complete"),
		} {
			if err := writeFile(h.fs, file, content); err != nil {
				t.Fatal(err)
			}
		}
		h.produce(cl, "after", 2)
		if _, err := h.b.metaLog.DeleteBefore(o.End); err != nil {
			t.Fatal(err)
		}
		cl.Close()
		h.restart()
		if got := h.b.image().Topic("kept"); got == nil || got.ID != id || h.b.image().Topic("after") == nil {
			t.Fatalf("after the restart: %+v, %+v", got, h.b.image().Topic("after"))
		}
		cl = h.client()
		h.produce(cl, "kept", 1)
		cl.Close()

		h.stop()
		text[len(text)-1]++
		if err := writeFile(h.fs, name, text); err != nil {
			t.Fatal(err)
		}
		if err := h.tryStart(); err == nil {
			t.Error("the broker started on a damaged snapshot")
		}
		if _, _, err := readSnapshot(h.fs, strings.TrimSuffix(dir, "/"), log.Offsets{Start: o.End + 1, End: o.End + 9}); err == nil || !strings.Contains(err.Error(), "has no snapshot") {
			t.Errorf("no snapshot: %v", err)
		}
		text[len(text)-1]--
		if err := writeFile(h.fs, name, text); err != nil {
			t.Fatal(err)
		}
		h.start()
		if got := h.b.image().Topic("kept"); got == nil || got.ID != id {
			t.Errorf("with the snapshot restored: %+v", got)
		}
	})
}

func offsetName(offset int64, suffix string) string {
	return fmt.Sprintf("%020d-%010d.%s", offset, 1, suffix)
}
