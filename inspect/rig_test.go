package inspect

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

// rig is a data directory in memory.
type rig struct {
	t   testing.TB
	fs  *vfs.Mem
	dir string
	now time.Time
	n   int // batches that were made
}

func id(n byte) (id [16]byte) {
	id[0], id[15] = 1, n
	return id
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) put(name string, b []byte) {
	r.t.Helper()
	r.must(write(r.fs, filepath.Join(r.dir, name), b))
}

func write(fs vfs.FS, name string, b []byte) error {
	f, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Close()
}

func (r *rig) get(name string) []byte {
	r.t.Helper()
	b, err := readSmall(r.fs, filepath.Join(r.dir, name))
	r.must(err)
	return b
}

// messages are records that say which they are.
func (r *rig) messages(n int) []batch.Message {
	out := make([]batch.Message, n)
	for i := range out {
		out[i] = batch.Message{Timestamp: 1_700_000_000_000 + int64(r.n*10+i*3%7), Key: fmt.Appendf(nil, "key %d", i), Value: fmt.Appendf(nil, "value %d of batch %d", i, r.n)}
	}
	r.n++
	return out
}

func (r *rig) build(o batch.Options, ms []batch.Message) []byte {
	r.t.Helper()
	var e batch.Encoder
	b, err := e.Append(nil, o, ms)
	r.must(err)
	return b
}

func (r *rig) append(l *log.Log, b []byte, o log.AppendOptions) {
	r.t.Helper()
	if _, err := l.Append(r.now, b, o); err != nil {
		r.t.Fatal(err)
	}
}

// newRig fills a data directory with logs of all kinds, by the log itself, and stops cleanly.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, fs: vfs.NewMem(), dir: "data", now: time.UnixMilli(1_700_000_100_000)}
	n := byte(100)
	s, err := log.OpenStore(r.fs, r.dir, log.Options{NewID: func() [16]byte { n++; return id(n) }, Random: func() int64 { return 0 },
		InitialDelay: time.Hour, RetentionCheck: time.Hour, Checkpoint: time.Hour, StartCheckpoint: time.Hour, ProducerExpiration: time.Hour, ProducerExpirationCheck: time.Hour})
	r.must(err)
	s.SetBrokerEpoch(7)
	c := log.DefaultConfig()
	c.SegmentBytes, c.IndexIntervalBytes = 1500, 200
	open := func(topic string, i byte) *log.Log {
		l, err := s.Open(topic, 0, id(i), c)
		r.must(err)
		return l
	}
	plain := open("plain", 1)
	for i := range 24 {
		o := batch.Plain()
		o.Codec = batch.Codec(i % 5)
		r.append(plain, r.build(o, r.messages(1+i%4)), log.AppendOptions{LeaderEpoch: int32(i / 8)})
	}
	r.transactions(open("txn", 2))
	cut := open("cut", 3)
	for range 12 {
		r.append(cut, r.build(batch.Plain(), r.messages(5)), log.AppendOptions{LeaderEpoch: 1})
	}
	if _, err := cut.DeleteBefore(25); err != nil { // in the first segment, which therefore stays
		t.Fatal(err)
	}
	offsets := open("__consumer_offsets", 4)
	for i := range 3 {
		key := append([]byte{0, 1, 0, 1, 'g', 0, 1, 't'}, 0, 0, 0, byte(i))
		value := append([]byte{0, 3}, 0, 0, 0, 0, 0, 0, 0, byte(i), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9)
		r.append(offsets, r.build(batch.Plain(), []batch.Message{{Timestamp: int64(i) + 5, Key: key, Value: value}}), log.AppendOptions{Origin: log.Coordinator})
	}
	r.metadataLog(s)
	r.must(s.Close())
	r.must(r.fs.Remove(filepath.Join(r.dir, ".lock")))
	r.put(metaPropertiesFile, metadata.MetaProperties{ClusterID: "a-cluster", NodeID: 1, DirectoryID: id(77)}.Format(r.now))
	r.put(cleanerFile, []byte("0\n1\n__consumer_offsets 0 2\n"))
	q := metadata.QuorumState{DataVersion: 1, LeaderID: 1, LeaderEpoch: 3, VotedID: 1, VotedDirectoryID: id(77)}
	r.put(metadataDir+"/"+quorumStateFile, q.Format())
	r.put(metadataDir+"/"+fmt.Sprintf("%020d-%010d.checkpoint", 4, 3), r.snapshot(3))
	r.put(bootstrapFile, r.snapshot(0))
	r.legacy("old", 5)
	return r
}

// transactions interleaves two producers that commit and abort.
func (r *rig) transactions(l *log.Log) {
	seq := [2]int32{}
	for i := range 12 {
		for p := range 2 {
			o := batch.Options{ProducerID: int64(40 + p), ProducerEpoch: 0, BaseSequence: seq[p], Transactional: true, LeaderEpoch: -1}
			seq[p] += 2
			r.append(l, r.build(o, r.messages(2)), log.AppendOptions{LeaderEpoch: 1, Verified: true})
		}
		if i%2 == 1 {
			for p := range 2 {
				kind := batch.ControlCommit
				if (i/2+p)%2 == 0 {
					kind = batch.ControlAbort
				}
				r.append(l, batch.AppendMarker(nil, int64(40+p), 0, kind, int32(i), r.now.UnixMilli()), log.AppendOptions{Origin: log.Coordinator, LeaderEpoch: 1})
			}
		}
	}
}

// records are what the metadata log says.
func (r *rig) records() []metadata.Message {
	var out []metadata.Message
	out = append(out, &metadata.FeatureLevelRecord{Name: "metadata.version", FeatureLevel: 30},
		&metadata.RegisterBrokerRecord{BrokerID: 1, IncarnationID: id(9), BrokerEpoch: 7, LogDirs: [][16]byte{id(77)}})
	for i, name := range []string{"plain", "txn", "cut", "__consumer_offsets", "old"} {
		out = append(out, &metadata.TopicRecord{Name: name, TopicID: id(byte(i + 1))},
			&metadata.PartitionRecord{TopicID: id(byte(i + 1)), Replicas: []int32{1}, Isr: []int32{1}, Leader: 1, Directories: [][16]byte{id(77)}})
	}
	policy := "compact"
	return append(out, &metadata.ConfigRecord{ResourceType: topicResource, ResourceName: "__consumer_offsets", Name: "cleanup.policy", Value: &policy})
}

func (r *rig) metadataLog(s *log.Store) {
	c := log.DefaultConfig()
	l, err := s.Open(metadata.ClusterMetadataTopic, 0, metadata.ClusterMetadataTopicID, c)
	r.must(err)
	o := batch.Plain()
	o.Control = true
	leader := (&metadata.LeaderChange{LeaderID: 1, Voters: []metadata.Voter{{ID: 1}}, GrantingVoters: []metadata.Voter{{ID: 1}}}).AppendTo(nil)
	r.append(l, r.build(o, []batch.Message{{Timestamp: 3, Key: metadata.AppendControlKey(nil, metadata.ControlLeaderChange), Value: leader}}), log.AppendOptions{Origin: log.Raft, LeaderEpoch: 3})
	for _, m := range r.records() {
		version := int16(0)
		switch m.(type) {
		case *metadata.RegisterBrokerRecord:
			version = 3
		case *metadata.PartitionRecord:
			version = 1
		}
		r.append(l, r.build(batch.Plain(), []batch.Message{{Timestamp: 4, Value: metadata.AppendRecord(nil, m, version)}}), log.AppendOptions{Origin: log.Raft, LeaderEpoch: 3})
	}
}

// snapshot is one of the metadata log, of an epoch.
func (r *rig) snapshot(epoch int32) []byte {
	o := batch.Plain()
	o.LeaderEpoch, o.Control = epoch, true
	header := batch.Message{Timestamp: 5, Key: metadata.AppendControlKey(nil, metadata.ControlSnapshotHeader), Value: (&metadata.SnapshotHeader{LastContainedLogTimestamp: 4}).AppendTo(nil)}
	footer := batch.Message{Timestamp: 5, Key: metadata.AppendControlKey(nil, metadata.ControlSnapshotFooter), Value: (&metadata.SnapshotFooter{}).AppendTo(nil)}
	b := batch.Append(nil, o, []batch.Message{header})
	o.Control, o.BaseOffset = false, 1
	b = batch.Append(b, o, []batch.Message{{Timestamp: 5, Value: metadata.AppendRecord(nil, &metadata.FeatureLevelRecord{Name: "metadata.version", FeatureLevel: 30}, 0)}})
	o.Control, o.BaseOffset = true, 2
	return batch.Append(b, o, []batch.Message{footer})
}

// message is one of message format 0 or 1.
func message(offset int64, magic, attributes byte, timestamp int64, key, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, magic, attributes)
	if magic == 1 {
		b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
	}
	for _, f := range [][]byte{key, value} {
		if f == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// legacy writes a topic as a Kafka of 0.10 left it: messages of formats 0 and 1, and a
// compressed wrapper.
func (r *rig) legacy(topic string, n byte) {
	dir := filepath.Join(r.dir, topic+"-0")
	r.must(r.fs.MkdirAll(dir, 0o700))
	var b []byte
	for i := range 3 {
		b = append(b, message(int64(i), 0, 0, -1, nil, []byte("zero"))...)
	}
	b = append(b, message(3, 1, 0, 1000, []byte("k"), []byte("one"))...)
	var inner []byte
	for i := range 3 {
		inner = append(inner, message(int64(i), 1, 0, 2000+int64(i), []byte("k"), []byte("inner"))...)
	}
	b = append(b, message(6, 1, byte(batch.Gzip), 2002, nil, gzipped(r.t, inner))...)
	r.must(write(r.fs, filepath.Join(dir, segmentFile(0, logSuffix)), b))
	r.must(write(r.fs, filepath.Join(dir, segmentFile(0, indexSuffix)), nil))
	times := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, 2002), 6)
	r.must(write(r.fs, filepath.Join(dir, segmentFile(0, timeIndexSuffix)), times))
	r.must(write(r.fs, filepath.Join(dir, partitionFile), []byte("version: 0\ntopic_id: "+metadata.UUIDString(id(n)))))
	r.must(write(r.fs, filepath.Join(dir, epochFile), []byte("0\n0\n")))
	for _, file := range []string{recoveryPointFile, highWatermarkFile} {
		text := string(r.get(file))
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		lines[1] = fmt.Sprint(len(lines) - 1)
		r.put(file, []byte(strings.Join(append(lines, topic+" 0 7"), "\n")+"\n"))
	}
}

// check looks at the directory.
func (r *rig) check(dirs ...string) ([]Finding, Summary) {
	r.t.Helper()
	var found []Finding
	if len(dirs) == 0 {
		dirs = []string{r.dir}
	}
	sum, err := Check(Options{FS: r.fs, Dirs: dirs, Found: func(f Finding) { found = append(found, f) }})
	r.must(err)
	return found, sum
}

// files are all files of the directory.
func (r *rig) files() []string {
	r.t.Helper()
	var out []string
	list, err := r.fs.ReadDir(r.dir)
	r.must(err)
	for _, e := range list {
		if !e.IsDir() {
			out = append(out, e.Name())
			continue
		}
		inner, err := r.fs.ReadDir(filepath.Join(r.dir, e.Name()))
		r.must(err)
		for _, f := range inner {
			out = append(out, e.Name()+"/"+f.Name())
		}
	}
	return out
}
