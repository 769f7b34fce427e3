package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

const metaDirName = "data/__cluster_metadata-0"

// metaFiles are the files of the metadata log with a suffix, sorted.
func (h *harness) metaFiles(suffix string) (names []string) {
	h.t.Helper()
	entries, err := h.fs.ReadDir(metaDirName)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	return names
}

// churn makes metadata records without making metadata.
func (h *harness) churn(cl *kgo.Client, n int) {
	h.t.Helper()
	for i := range n {
		create := kmsg.NewPtrCreateTopicsRequest()
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprintf("churn-%d", i), 3, 1
		create.Topics = append(create.Topics, t)
		if r := ask[*kmsg.CreateTopicsResponse](h, cl, create); r.Topics[0].ErrorCode != 0 {
			h.t.Fatalf("create %s: error %d", t.Topic, r.Topics[0].ErrorCode)
		}
		remove := kmsg.NewPtrDeleteTopicsRequest()
		d := kmsg.NewDeleteTopicsRequestTopic()
		d.Topic = kmsg.StringPtr(t.Topic)
		remove.Topics = append(remove.Topics, d)
		ask[*kmsg.DeleteTopicsResponse](h, cl, remove)
	}
}

// Snapshots are made as bytes come in, the log begins behind the last but one, and a
// start needs no more than the newest of them and the rest of the log.
func TestMetadataSnapshots(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		h.produce(cl, "kept", 3)
		id := h.b.image().Topic("kept").ID
		var made []string
		for range 10 {
			h.churn(cl, 10)
			synctest.Wait()
			made = append(made, h.metaFiles(snapshotSuffix)...)
			time.Sleep(2 * time.Minute)
		}
		cl.Close()
		slices.Sort(made)
		if made = slices.Compact(made); len(made) < 5 {
			t.Errorf("snapshots %v", made)
		}
		now := h.metaFiles(snapshotSuffix)
		if len(now) == 0 || len(now) > 3 || now[0] == made[0] {
			t.Errorf("%v are left of %v", now, made)
		}
		o, size := h.b.metaLog.Offsets(), h.b.metaLog.Size()
		if o.Start == 0 || size > 20000 || slices.Contains(h.metaFiles(".log"), "00000000000000000000.log") {
			t.Errorf("the log begins at %d and has %d bytes in %v", o.Start, size, h.metaFiles(".log"))
		}
		for _, name := range []string{"00000000000000000001-0000000001.checkpoint", "00000000000000000900-0000000001.checkpoint.part", "00000000000000000900-0000000001.checkpoint.deleted"} {
			if err := writeFile(h.fs, filepath.Join(metaDirName, name), []byte("left over")); err != nil {
				t.Fatal(err)
			}
		}
		h.restart()
		synctest.Wait() // it may be making the next one
		if got := h.b.image().Topic("kept"); got == nil || got.ID != id || h.b.image().TopicCount() != 1 {
			t.Errorf("after the restart: %+v", h.b.image().Topics())
		}
		for _, name := range h.metaFiles("") {
			if strings.Contains(name, ".part") || strings.Contains(name, ".checkpoint.deleted") || strings.HasPrefix(name, "00000000000000000001-") {
				t.Errorf("%s is left", name)
			}
		}
		cl = h.client()
		h.produce(cl, "kept", 1)
		cl.Close()
	}, "metadata.log.max.record.bytes.between.snapshots=3000", "internal.metadata.log.segment.bytes=4000", "metadata.max.retention.bytes=12000")
}

// A damaged snapshot is set aside where the log or an older one does as well, and
// keeps the broker from starting where nothing else says what was there: it must not
// forget its topics.
func TestDamagedMetadataSnapshots(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		h.produce(cl, "kept", 3)
		id := h.b.image().Topic("kept").ID
		for range 2 { // a snapshot each
			h.churn(cl, 12)
			synctest.Wait()
		}
		cl.Close()
		h.stop()
		h.set = nil // from here on no snapshot is made beside those that the test is about
		check := func() {
			t.Helper()
			if got := h.b.image().Topic("kept"); got == nil || got.ID != id {
				t.Errorf("topics %+v", h.b.image().Topics())
			}
		}
		names := h.metaFiles(snapshotSuffix) // the first is the one of formatting
		if len(names) < 3 {
			t.Fatalf("snapshots %v", names)
		}
		newest := filepath.Join(metaDirName, names[len(names)-1])
		text, err := readFile(h.fs, newest)
		if err != nil {
			t.Fatal(err)
		}
		for name, broken := range map[string][]byte{
			"a bit": flip(text, len(text)/2), "cut off": text[:len(text)-1], "without a footer": text[:len(text)-75],
			"empty": {}, "a length": flip(text, 8), "without its head": text[90:],
		} {
			if err := writeFile(h.fs, newest, broken); err != nil {
				t.Fatal(err)
			}
			h.start()
			check()
			h.stop()
			aside := strings.TrimSuffix(newest, snapshotSuffix) + damagedSuffix
			if _, err := h.fs.Stat(aside); err != nil {
				t.Errorf("%s: it was not set aside: %v", name, err)
			}
			if err := h.fs.Remove(aside); err != nil {
				t.Error(err)
			}
		}
		// Now the log begins behind the snapshots: the newest is all there is.
		if err := writeFile(h.fs, newest, text); err != nil {
			t.Fatal(err)
		}
		h.start()
		last, _ := parseSnapshotName(names[len(names)-1], snapshotSuffix)
		if _, err := h.b.metaLog.DeleteBefore(last.offset); err != nil {
			t.Fatal(err)
		}
		h.restart()
		check()
		if names = h.metaFiles(snapshotSuffix); len(names) != 1 {
			t.Fatalf("snapshots %v", names)
		}
		h.stop()
		newest = filepath.Join(metaDirName, names[0])
		if text, err = readFile(h.fs, newest); err != nil {
			t.Fatal(err)
		}
		refuses := func(why string) {
			t.Helper()
			if err := h.tryStart(); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("want %q, the start says: %v", why, err)
			}
		}
		if err := writeFile(h.fs, newest, flip(text, len(text)/2)); err != nil {
			t.Fatal(err)
		}
		refuses("read snapshot " + newest)
		if err := h.fs.Rename(newest, newest+".away"); err != nil {
			t.Fatal(err)
		}
		refuses("has no snapshot for a log that begins at offset")
		if err := writeFile(h.fs, newest, text); err != nil {
			t.Fatal(err)
		}
		beyond := filepath.Join(metaDirName, snapshotID{last.offset + 100000, 1000}.String()+snapshotSuffix)
		if err := writeFile(h.fs, beyond, text); err != nil {
			t.Fatal(err)
		}
		refuses("the log lost records")
		if err := h.fs.Remove(beyond); err != nil {
			t.Fatal(err)
		}
		h.start()
		check()
	}, "metadata.log.max.record.bytes.between.snapshots=2000")
}

func flip(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 0x10
	return b
}

// After the interval a snapshot is made of what changed, and only then.
func TestMetadataSnapshotsByTime(t *testing.T) {
	inBubble(t, func(h *harness) {
		count := func() int { return len(h.metaFiles(snapshotSuffix)) - 1 } // without the one of formatting
		time.Sleep(59 * time.Minute)
		if synctest.Wait(); count() != 0 {
			t.Errorf("%d snapshots before the interval", count())
		}
		time.Sleep(2 * time.Minute)
		if synctest.Wait(); count() != 1 {
			t.Errorf("%d snapshots after the interval", count())
		}
		time.Sleep(24 * time.Hour)
		cl := h.client()
		defer cl.Close()
		if synctest.Wait(); count() != 1 {
			t.Errorf("%d snapshots of the same", count())
		}
		h.churn(cl, 1) // the interval is long over
		time.Sleep(time.Second)
		if synctest.Wait(); count() != 2 {
			t.Errorf("%d snapshots after a change", count())
		}
		h.churn(cl, 1)
		time.Sleep(10 * time.Minute)
		if synctest.Wait(); count() != 2 {
			t.Errorf("%d snapshots, the interval is not over", count())
		}
		time.Sleep(51 * time.Minute)
		if synctest.Wait(); count() != 3 {
			t.Errorf("%d snapshots after another interval", count())
		}
		// metadata.max.retention.ms counts from the last record that a snapshot stands for.
		time.Sleep(7*24*time.Hour + time.Minute)
		if synctest.Wait(); len(h.metaFiles(snapshotSuffix)) != 1 || h.b.metaLog.Offsets().Start == 0 {
			t.Errorf("after a week %v are left and the log begins at %d", h.metaFiles(""), h.b.metaLog.Offsets().Start)
		}
	})
}

// A full disk keeps snapshots from being made for a while; a sync that failed, until
// the next start. The metadata goes on either way.
func TestMetadataSnapshotsOnBadDisks(t *testing.T) {
	for name, c := range map[string]struct {
		rule   vfs.Rule
		healed bool
	}{
		"full":     {vfs.Rule{Kind: vfs.OpWrite, Path: "*-0000000001.checkpoint.part", Err: syscall.ENOSPC}, true},
		"no sync":  {vfs.Rule{Kind: vfs.OpSync, Path: "*-0000000001.checkpoint.part", Err: syscall.EIO}, false},
		"no names": {vfs.Rule{Kind: vfs.OpRename, Path: "*-0000000001.checkpoint", Err: syscall.EIO}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &harness{t: t, fs: vfs.NewFault(vfs.NewMem(), c.rule), set: []string{"metadata.log.max.record.bytes.between.snapshots=2000"}}
				h.start()
				defer h.stop()
				cl := h.client()
				defer cl.Close()
				h.churn(cl, 4)
				if synctest.Wait(); len(h.metaFiles(snapshotSuffix)) != 1 || len(h.metaFiles(partSuffix)) != 0 {
					t.Errorf("files %v", h.metaFiles(""))
				}
				time.Sleep(2 * time.Minute)
				h.churn(cl, 4)
				if synctest.Wait(); (len(h.metaFiles(snapshotSuffix)) > 1) != c.healed {
					t.Errorf("files after a while %v", h.metaFiles(""))
				}
				if !c.healed {
					h.restart()
					time.Sleep(time.Second)
					if synctest.Wait(); len(h.metaFiles(snapshotSuffix)) < 2 {
						t.Errorf("files after a restart %v", h.metaFiles(""))
					}
				}
			})
		})
	}
}

// A new directory is formatted as kafka-storage format does: with the records that
// the log begins with, and this node's directory as the one voter unless the
// configuration names static voters.
func TestFormat(t *testing.T) {
	for name, c := range map[string]struct {
		set   []string
		kraft int16
		voter string
	}{
		"dynamic": {nil, 1, "CONTROLLER localhost:9093"},
		"listener": {[]string{"listeners=PLAINTEXT://127.0.0.1:9092,CTL://10.0.0.7:19093", "controller.listener.names=CTL",
			"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CTL:PLAINTEXT"}, 1, "CTL 10.0.0.7:19093"},
		"static": {[]string{"controller.quorum.voters=1@localhost:9093"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				var bootstrap []string
				if b := bootstrapRecords(Options{FS: h.fs, Dir: "data"}); b.Err != nil {
					t.Fatal(b.Err)
				} else {
					for _, r := range b.Records {
						m, _, err := metadata.DecodeRecord(r)
						if err != nil {
							t.Fatal(err)
						}
						f := m.(*metadata.FeatureLevelRecord)
						bootstrap = append(bootstrap, fmt.Sprintf("%s=%d", f.Name, f.FeatureLevel))
					}
				}
				if want := []string{"metadata.version=30", "eligible.leader.replicas.version=1", "group.version=1", "share.version=1", "streams.version=1", "transaction.version=2"}; !slices.Equal(bootstrap, want) {
					t.Errorf("bootstrap.checkpoint has %v", bootstrap)
				}
				text, err := readFile(h.fs, metaDirName+"/quorum-state")
				if err != nil {
					t.Fatal(err)
				}
				if q, err := metadata.ParseQuorumState(text); err != nil || q.DataVersion != c.kraft || q.LeaderID != 1 || q.LeaderEpoch != 1 {
					t.Errorf("quorum-state %s: %v", text, err)
				}
				found := newSnapshots(h.fs, metaDirName, h.b.metaLog, h.b.log, snapshotSettings{})
				if err := found.find(h.b.metaLog.Offsets()); err != nil {
					t.Fatal(err)
				}
				q, inLog, err := voters(h.b.metaLog, found)
				if err != nil || q.Version != c.kraft || h.b.image().Quorum.Version != c.kraft {
					t.Fatalf("kraft.version %d, %d: %v", q.Version, h.b.image().Quorum.Version, err)
				}
				if c.voter == "" {
					if len(q.Voters) != 0 || len(h.metaFiles(snapshotSuffix)) != 0 {
						t.Errorf("static voters, and %+v in %v", q, h.metaFiles(""))
					}
					return
				}
				e := q.Voters[0].Endpoints[0]
				if !inLog || len(q.Voters) != 1 || q.Voters[0].DirectoryID != h.b.dirID || fmt.Sprintf("%s %s:%d", e.Name, e.Host, e.Port) != c.voter {
					t.Errorf("in the log %v: %+v", inLog, q.Voters)
				}
				h.restart() // the voters are said once, not at every start
				if n := countControl(t, h.b.metaLog, metadata.ControlKRaftVoters); n != 1 {
					t.Errorf("%d voters records", n)
				}
			}, c.set...)
		})
	}
}

func countControl(t *testing.T, l *log.Log, kind metadata.ControlType) (n int) {
	t.Helper()
	o := l.Offsets()
	err := readBatches(l, o.Start, o.End, func(h *batch.Header, b []byte) error {
		return controlRecords(h, b, func(k metadata.ControlType, _ []byte) error {
			if k == kind {
				n++
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A snapshot that cannot be read just now is not damaged: the start fails and leaves
// it where it is.
func TestUnreadableMetadataSnapshotStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		h := &harness{t: t, fs: mem}
		h.start()
		h.stop()
		h.fs = vfs.NewFault(mem, vfs.Rule{Kind: vfs.OpRead, Path: "*" + snapshotSuffix, Err: syscall.EIO})
		if err := h.tryStart(); !errors.Is(err, syscall.EIO) {
			t.Errorf("the start says: %v", err)
		}
		h.start()
		defer h.stop()
		if names := h.metaFiles(damagedSuffix); len(names) != 0 || len(h.metaFiles(snapshotSuffix)) != 1 {
			t.Errorf("files %v", h.metaFiles(""))
		}
	})
}

// What belongs to a quorum of several controllers, to a later version, or is damaged
// is refused before anything is served, with what to do.
func TestMetadataIsRefused(t *testing.T) {
	version := func(level int16) []byte {
		c := snapshotContent{records: func(yield func([]byte) bool) {
			yield(metadata.AppendRecord(nil, &metadata.FeatureLevelRecord{Name: "metadata.version", FeatureLevel: level}, 0))
		}}
		w := &sliceWriter{}
		if err := c.writeTo(w, nil); err != nil {
			t.Fatal(err)
		}
		return w.b
	}
	var q metadata.Quorum
	q.SetVoters([]metadata.KRaftVoter{{ID: 1}, {ID: 2}})
	several := &sliceWriter{}
	if err := (&snapshotContent{control: q.ControlRecords(), records: func(func([]byte) bool) {}}).writeTo(several, nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file    string
		content []byte
		want    string
	}{
		"several dynamic voters": {metaDirName + "/" + snapshotID{}.String() + snapshotSuffix, several.b, "voters [1 2], and only node 1 alone"},
		"several static voters":  {metaDirName + "/quorum-state", metadata.QuorumState{CurrentVoters: []int32{1, 2, 3}}.Format(), "voters [1 2 3], and only node 1 alone"},
		"a later version":        {"data/bootstrap.checkpoint", version(31), "metadata.version is supported at levels 7 to 30, the log has it at 31"},
		"a damaged bootstrap":    {"data/bootstrap.checkpoint", version(30)[:80], "read snapshot data/bootstrap.checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &harness{t: t, fs: vfs.NewMem()}
				properties := metadata.MetaProperties{ClusterID: "4L6g3nShT-eMCtK--X86sw", NodeID: 1, DirectoryID: [16]byte{1}}
				for file, content := range map[string][]byte{"data/meta.properties": properties.Format(time.Now()), c.file: c.content} {
					if err := h.fs.MkdirAll(filepath.Dir(file), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := writeFile(h.fs, file, content); err != nil {
						t.Fatal(err)
					}
				}
				if err := h.tryStart(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("want %q, the start says: %v", c.want, err)
				}
			})
		})
	}
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(b []byte) (int, error) {
	w.b = append(w.b, b...)
	return len(b), nil
}

// The directory that another program left half made gets the id that all metadata logs
// have; one of another topic is left alone.
func TestPrepareMetadataDir(t *testing.T) {
	want := "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"
	for text, after := range map[string]string{
		"": want, "version: 0\ntopic": want, want: want, want + "\n": want + "\n",
		"version: 0\ntopic_id: 4L6g3nShT-eMCtK--X86sw": "version: 0\ntopic_id: 4L6g3nShT-eMCtK--X86sw",
	} {
		mem := vfs.NewMem()
		if err := mem.MkdirAll(metaDirName, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := writeFile(mem, metaDirName+"/partition.metadata", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := prepareMetadataDir(Options{FS: mem, Dir: "data"}); err != nil {
			t.Fatal(err)
		}
		if got, err := readFile(mem, metaDirName+"/partition.metadata"); err != nil || string(got) != after {
			t.Errorf("%q became %q (%v)", text, got, err)
		}
	}
	mem := vfs.NewMem()
	if err := mem.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := prepareMetadataDir(Options{FS: mem, Dir: "data"}); err != nil {
		t.Fatal(err)
	}
	if got, err := readFile(mem, metaDirName+"/partition.metadata"); err != nil || string(got) != want {
		t.Errorf("%q (%v)", got, err)
	}
}

// A changed bit anywhere in a snapshot is noticed, but for the leader epoch in the head
// of a batch, which nobody reads.
func TestSnapshotBits(t *testing.T) {
	text, err := readFile(vfs.OS(), "../metadata/testdata/kafka-4.3.1-filled-226.checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	nobody := map[int]bool{}
	for pos := 0; pos < len(text); {
		h, err := batch.Parse(text[pos:])
		if err != nil {
			t.Fatal(err)
		}
		for i := 12; i < 16; i++ {
			nobody[pos+i] = true
		}
		pos += h.Size()
	}
	read := func(b []byte) error {
		return walkBatches(bytes.NewReader(b), int64(len(b)), func(*batch.Header, []byte) error { return nil })
	}
	for at := range text {
		for bit := range 8 {
			b := slices.Clone(text)
			b[at] ^= 1 << bit
			if err := read(b); (err == nil) != nobody[at] || err != nil && !errors.Is(err, errNotWhole) {
				t.Fatalf("bit %d of byte %d: %v", bit, at, err)
			}
		}
		if err := read(text[:at]); !errors.Is(err, errNotWhole) {
			t.Fatalf("cut off at %d: %v", at, err)
		}
	}
}

// Kafka's own snapshots are read: as far as they are snapshots.
func TestKafkasSnapshotsAreRead(t *testing.T) {
	osfs := vfs.OS()
	for _, name := range []string{"filled-38", "filled-226", "bootstrap"} {
		file := "../metadata/testdata/kafka-4.3.1-" + name + ".checkpoint"
		records := 0
		if err := walkSnapshot(osfs, file, func(h *batch.Header, _ []byte) error {
			records += int(h.Count)
			return nil
		}); err != nil || records < 8 {
			t.Errorf("%s: %d records, %v", file, records, err)
		}
	}
	if err := walkSnapshot(osfs, "../metadata/testdata/kafka-4.3.1-static.log", func(*batch.Header, []byte) error { return nil }); err == nil {
		t.Error("a log is taken for a snapshot")
	}
	if err := walkSnapshot(osfs, "../metadata/testdata/nothing", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
