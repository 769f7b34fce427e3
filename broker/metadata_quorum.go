package broker

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

const (
	bootstrapFile = "bootstrap.checkpoint"
	partitionFile = "partition.metadata"
	// defaultControllerPort is that of Kafka's own config/server.properties.
	defaultControllerPort = 9093
)

// metadataDir is the directory of the metadata log.
func metadataDir(o Options) string { return filepath.Join(o.Dir, metadata.ClusterMetadataTopic+"-0") }

// format writes what kafka-storage format --standalone writes besides
// meta.properties: the first records of the metadata log and, unless the
// configuration names static voters, that this node's directory is the one voter
// (KIP-853). A metadata log that is there already is left alone.
func (b *Broker) format(o Options, directory [16]byte) error {
	entries, err := o.FS.ReadDir(metadataDir(o))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("format %s: %w", o.Dir, err)
	}
	for _, e := range entries {
		if id, ok := parseSnapshotName(e.Name(), snapshotSuffix); ok && id != (snapshotID{}) || filepath.Ext(e.Name()) == ".log" {
			return nil
		}
	}
	if err := o.FS.MkdirAll(metadataDir(o), 0o700); err != nil {
		return fmt.Errorf("make the metadata log's directory: %w", err)
	}
	now := time.Now().UnixMilli()
	if len(b.static.Strings("controller.quorum.voters")) == 0 {
		var q metadata.Quorum
		q.SetVoters([]metadata.KRaftVoter{b.voter(directory)})
		voters := snapshotContent{now: now, lastTimestamp: now, control: q.ControlRecords(), records: func(func([]byte) bool) {}}
		name := filepath.Join(metadataDir(o), snapshotID{}.String())
		if _, err := nameSnapshot(o.FS, name+partSuffix, name+snapshotSuffix, &voters, nil); err != nil {
			return err
		}
	}
	// These two sync the directories, with the names of what was made before them.
	if err := writeFile(o.FS, filepath.Join(metadataDir(o), partitionFile), []byte(metadataPartition())); err != nil {
		return err
	}
	first := snapshotContent{now: now, records: func(yield func([]byte) bool) {
		for _, m := range metadata.FreshFeatureRecords(metadata.Features()) {
			if !yield(metadata.AppendRecord(nil, m, 0)) {
				return
			}
		}
	}}
	name := filepath.Join(o.Dir, bootstrapFile)
	_, err = writeSnapshot(o.FS, name+".tmp", name, &first, nil)
	return err
}

// partitionHead is the beginning of partition.metadata; a topic id follows.
const partitionHead = "version: 0\ntopic_id: "

func metadataPartition() string {
	return partitionHead + metadata.UUIDString(metadata.ClusterMetadataTopicID)
}

// prepareMetadataDir makes the metadata log's directory say whose it is before there is
// anything in it. The id is the same everywhere, so what a crash left half written, and
// what kafka-storage does not write at all, is written again; another id stays, and the
// log refuses it.
func prepareMetadataDir(o Options) error {
	dir := metadataDir(o)
	name := filepath.Join(dir, partitionFile)
	want := metadataPartition()
	text, err := readFile(o.FS, name)
	if has := string(bytes.TrimSpace(text)); err == nil && len(has) == len(want) && strings.HasPrefix(has, partitionHead) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the metadata log's directory: %w", err)
	}
	if err := o.FS.SyncDir(o.Dir); err != nil {
		return fmt.Errorf("make the metadata log's directory: %w", err)
	}
	return writeFile(o.FS, name, []byte(want))
}

// voter is this node as the quorum knows it. Where no controller listener is
// configured it is told to be where Kafka's own configuration has it; a Kafka that
// takes over writes its own at once.
func (b *Broker) voter(directory [16]byte) metadata.KRaftVoter {
	v := metadata.KRaftVoter{ID: b.nodeID, DirectoryID: directory, MaxSupportedVersion: 1}
	for _, l := range b.static.Listeners() {
		if l.Controller {
			v.Endpoints = append(v.Endpoints, metadata.VoterEndpoint{Name: l.Name, Host: orLocalhost(l.AdvertisedHost, l.Host), Port: uint16(cmp.Or(l.Port, defaultControllerPort))})
		}
	}
	if v.Endpoints == nil {
		v.Endpoints = []metadata.VoterEndpoint{{Name: "CONTROLLER", Host: "localhost", Port: defaultControllerPort}}
	}
	return v
}

func orLocalhost(hosts ...string) string {
	for _, h := range hosts {
		if h != "" && h != "0.0.0.0" && h != "::" {
			return h
		}
	}
	return "localhost"
}

// bootstrapRecords are those that the directory was formatted with; nil if it was not
// formatted with any.
func bootstrapRecords(o Options) (b metadata.Bootstrap) {
	name := filepath.Join(o.Dir, bootstrapFile)
	b.Err = walkSnapshot(o.FS, name, func(h *batch.Header, text []byte) error {
		if h.Control() {
			return nil
		}
		return batch.Records(text, journalBatchBytes*8, func(r batch.Record) error {
			b.Records = append(b.Records, append([]byte{}, r.Value...))
			return nil
		})
	})
	if errors.Is(b.Err, fs.ErrNotExist) {
		return metadata.Bootstrap{}
	}
	return b
}

// voters reads what the control records of the log and of its snapshot say about the
// quorum. inLog is false while only the snapshot that formatting wrote names them.
func voters(l *log.Log, s *snapshots) (q metadata.Quorum, inLog bool, err error) {
	o := l.Offsets()
	id, ok, err := s.choose(o)
	if err != nil {
		return q, false, err
	}
	take := func(h *batch.Header, b []byte) error { return controlRecords(h, b, q.Apply) }
	from := o.Start
	if ok {
		if err := walkSnapshot(s.fs, s.path(id), take); err != nil {
			return q, false, err
		}
		from, inLog = id.offset, id.offset > 0 && q.Version > 0
	}
	err = readBatches(l, from, o.End, func(h *batch.Header, b []byte) error {
		if !h.Control() {
			return nil
		}
		if err := batch.CheckCRC(h, b); err != nil {
			return err
		}
		return controlRecords(h, b, func(t metadata.ControlType, value []byte) error {
			inLog = inLog || t == metadata.ControlKRaftVoters
			return q.Apply(t, value)
		})
	})
	return q, inLog, err
}

// lead begins a new leader epoch, as the only voter does at every start: the
// election's result is on disk before the first record of the epoch.
func (b *Broker) lead(o Options, l *log.Log, s *snapshots) (epoch int32, err error) {
	if err := s.find(l.Offsets()); err != nil {
		return 0, err
	}
	q, inLog, err := voters(l, s)
	if err == nil {
		err = q.Check(b.nodeID)
	}
	if err != nil {
		return 0, err
	}
	b.quorum = q
	path := filepath.Join(metadataDir(o), quorumStateFile)
	last := l.Offsets().LeaderEpoch
	if n := len(s.kept); n > 0 {
		last = max(last, s.kept[n-1].id.epoch)
	}
	text, err := readFile(o.FS, path)
	switch {
	case err == nil:
		state, err := metadata.ParseQuorumState(text)
		if err == nil {
			err = checkStaticVoters(state.CurrentVoters, b.nodeID)
		}
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		last = max(last, state.LeaderEpoch)
	case !errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	epoch = max(last, 0) + 1
	state := metadata.QuorumState{DataVersion: q.Version, LeaderID: b.nodeID, LeaderEpoch: epoch, VotedID: -1, CurrentVoters: []int32{b.nodeID}}
	if err := o.FS.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return 0, fmt.Errorf("make the metadata log's directory: %w", err)
	}
	if err := b.dirs.Essential(func() error { return writeFile(o.FS, path, state.Format()) }); err != nil {
		return 0, err
	}
	return epoch, b.announce(l, epoch, q, inLog)
}

// checkStaticVoters refuses the directory of a quorum that this node cannot lead alone.
func checkStaticVoters(ids []int32, nodeID int32) error {
	if len(ids) == 0 || len(ids) == 1 && ids[0] == nodeID {
		return nil
	}
	return fmt.Errorf("the metadata quorum has the voters %v, and only node %d alone can be served", ids, nodeID)
}

// announce writes the control records that open a leader epoch (KIP-595). The first
// leader of a log whose voters only formatting named writes them down too (KIP-853):
// that snapshot is deleted some day.
func (b *Broker) announce(l *log.Log, epoch int32, q metadata.Quorum, inLog bool) error {
	self := []metadata.Voter{{ID: b.nodeID}}
	change := metadata.LeaderChange{LeaderID: b.nodeID, Voters: self, GrantingVoters: self}
	now := time.Now()
	message := func(t metadata.ControlType, value []byte) batch.Message {
		return batch.Message{Timestamp: now.UnixMilli(), Key: metadata.AppendControlKey(nil, t), Value: value}
	}
	ms := []batch.Message{message(metadata.ControlLeaderChange, change.AppendTo(nil))}
	if !inLog {
		for _, r := range q.ControlRecords() {
			ms = append(ms, message(r.Type, r.Value))
		}
	}
	o := batch.Plain()
	o.Control = true
	done, err := l.Append(now, batch.Append(nil, o, ms), log.AppendOptions{Origin: log.Raft, Durable: b.durableAcks, LeaderEpoch: epoch})
	if err == nil && done.Commit != nil {
		<-done.Commit.Done()
		err = done.Commit.Err()
	}
	if err != nil {
		return fmt.Errorf("open leader epoch %d of the metadata log: %w", epoch, err)
	}
	return nil
}
