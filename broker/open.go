package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

const (
	metaPropertiesFile = "meta.properties"
	quorumStateFile    = "quorum-state"
)

// open brings up everything that serving needs, from the directory to the image.
func (b *Broker) open(ctx context.Context, o Options) error {
	store, err := log.OpenStore(o.FS, o.Dir, b.storeOptions(o))
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	b.store = store
	if err := b.identify(o); err != nil {
		return err
	}
	b.parts = newPartitions(store, b.topicLogConfig, b.image)
	if err := b.openMetadata(ctx, o); err != nil {
		return err
	}
	b.groups = newGroups(b, groupOptions(o.Config, b.newID))
	b.producerIDs = newProducerIDs(b.reserveProducerIDs)
	b.wg.Go(b.reap)
	b.wg.Go(b.forgetOffsets)
	b.wg.Go(b.watchStore)
	return nil
}

// identify reads who this directory belongs to, or gives a new one its identity.
func (b *Broker) identify(o Options) error {
	path := filepath.Join(o.Dir, metaPropertiesFile)
	text, err := readFile(o.FS, path)
	if errors.Is(err, fs.ErrNotExist) {
		p := metadata.MetaProperties{ClusterID: metadata.UUIDString(b.newID()), NodeID: b.nodeID, DirectoryID: b.newID()}
		b.clusterID, b.dirID = p.ClusterID, p.DirectoryID
		return writeFile(o.FS, path, p.Format(time.Now()))
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	p, err := metadata.ParseMetaProperties(text)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if p.NodeID != b.nodeID {
		return fmt.Errorf("%s says node.id=%d, but the configuration says %d: use the node's own data directory or set node.id=%d", path, p.NodeID, b.nodeID, p.NodeID)
	}
	b.clusterID, b.dirID = p.ClusterID, p.DirectoryID
	if b.dirID == [16]byte{} {
		p.DirectoryID = b.newID()
		b.dirID = p.DirectoryID
		return writeFile(o.FS, path, p.Format(time.Now()))
	}
	return nil
}

// openMetadata takes the lead of the metadata log in a new epoch, replays it and
// registers this start of the broker.
func (b *Broker) openMetadata(ctx context.Context, o Options) error {
	l, err := b.store.Open(metadata.ClusterMetadataTopic, 0, metadata.ClusterMetadataTopicID, metadataLogConfig(o.Config))
	if err != nil {
		return fmt.Errorf("open the metadata log: %w", err)
	}
	b.metaLog = l
	epoch, err := b.lead(o, l)
	if err != nil {
		return err
	}
	b.meta = coordinator.NewShell(coordinator.ShellOptions{
		Name: metadata.ClusterMetadataTopic,
		New:  func() coordinator.Shard { return metadata.NewShard(b.shardOptions()) },
		Journal: &journal{open: func() (*log.Log, error) { return l, nil }, epoch: epoch, origin: log.Raft, durable: b.durableAcks, snapshot: func(at log.Offsets) ([]byte, int64, error) {
			return readSnapshot(o.FS, filepath.Join(o.Dir, metadata.ClusterMetadataTopic+"-0"), at)
		}},
		Committed: b.publish,
		Log:       b.log.With("coordinator", metadata.ClusterMetadataTopic),
	})
	if _, err := b.askMetadata(ctx, metadata.Bootstrap{}); err != nil {
		return fmt.Errorf("begin the metadata log: %w", err)
	}
	if _, err := b.askMetadata(ctx, b.registration()); err != nil {
		return fmt.Errorf("register with the metadata log: %w", err)
	}
	return nil
}

// askMetadata hands one event to the metadata shard and waits until its records
// are durable.
func (b *Broker) askMetadata(ctx context.Context, event any) (any, error) {
	reply, err := b.meta.Do(ctx, event)
	if err != nil {
		return nil, err
	}
	if u, ok := reply.(metadata.Unreadable); ok {
		return nil, u
	}
	return reply, nil
}

// shardOptions are the settings of the controller's part.
func (b *Broker) shardOptions() metadata.ShardOptions {
	return metadata.ShardOptions{
		ClusterID: b.clusterID, NodeID: b.nodeID,
		NewID:                    func() [16]byte { return metadata.RandomUUID(b.newID()) },
		DefaultPartitions:        int32(b.static.Int("num.partitions")),
		DefaultReplicationFactor: int16(b.static.Int("default.replication.factor")),
		MinInSyncReplicas:        int32(b.static.Int("min.insync.replicas")),
		DeleteTopicEnable:        b.static.Bool("delete.topic.enable"),
		ValidateTopicConfig:      b.static.ValidateTopic,
		Configs:                  b.configRules(),
	}
}

// registration is this start of the node as the metadata log records it.
func (b *Broker) registration() metadata.RegisterBroker {
	r := metadata.RegisterBroker{
		Incarnation: metadata.RandomUUID(b.newID()), ControllerIncarnation: metadata.RandomUUID(b.newID()),
		Epoch: b.metaLog.Offsets().End, Rack: b.rack, Directories: [][16]byte{b.dirID}, Clean: b.store.Clean(),
	}
	for _, l := range b.static.Listeners() {
		ep := metadata.Endpoint{Name: l.Name, Host: l.AdvertisedHost, Port: uint16(l.AdvertisedPort)}
		if l.Controller {
			r.ControllerEndpoints = append(r.ControllerEndpoints, ep)
			continue
		}
		if bound, ok := b.endpoints[l.Name]; ok {
			ep.Host, ep.Port = bound.Host, uint16(bound.Port)
		}
		r.Endpoints = append(r.Endpoints, ep)
	}
	return r
}

// lead begins a new leader epoch, as the only voter does at every start: the
// election's result is on disk before the first record of the epoch.
func (b *Broker) lead(o Options, l *log.Log) (epoch int32, err error) {
	path := filepath.Join(o.Dir, metadata.ClusterMetadataTopic+"-0", quorumStateFile)
	last := l.Offsets().LeaderEpoch
	text, err := readFile(o.FS, path)
	switch {
	case err == nil:
		q, err := metadata.ParseQuorumState(text)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		last = max(last, q.LeaderEpoch)
	case !errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	epoch = max(last, 0) + 1
	q := metadata.QuorumState{LeaderID: b.nodeID, LeaderEpoch: epoch, VotedID: -1, CurrentVoters: []int32{b.nodeID}}
	if err := o.FS.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return 0, fmt.Errorf("make the metadata log's directory: %w", err)
	}
	if err := b.store.Essential(func() error { return writeFile(o.FS, path, q.Format()) }); err != nil {
		return 0, err
	}
	return epoch, b.announce(l, epoch)
}

// readSnapshot reads the newest snapshot of the metadata log that the log goes on
// from: <offset>-<epoch>.checkpoint holds everything below the offset (KIP-630).
func readSnapshot(fsys vfs.FS, dir string, at log.Offsets) (batches []byte, end int64, err error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("look for snapshots: %w", err)
	}
	name := ""
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".checkpoint")
		offset, epoch, two := strings.Cut(id, "-")
		n, err := strconv.ParseInt(offset, 10, 64)
		if !ok || !two || err != nil || len(offset) != 20 || len(epoch) != 10 {
			continue // among others those that are not complete, .checkpoint.part
		}
		if n >= at.Start && n <= at.End && n >= end {
			name, end = e.Name(), n
		}
	}
	if name == "" {
		return nil, 0, fmt.Errorf("%s has no snapshot for a log that begins at offset %d; restore it, or serve another copy of the directory", dir, at.Start)
	}
	batches, err = readFile(fsys, filepath.Join(dir, name))
	if err != nil {
		return nil, 0, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	return batches, end, nil
}

// readFile reads a small file.
func readFile(fsys vfs.FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), b); err != nil {
		return nil, err
	}
	return b, nil
}

// writeFile replaces a small file so that after a crash either the old or the new
// one is there: temporary file, fsync, rename, fsync of the directory.
func writeFile(fsys vfs.FS, path string, text []byte) error {
	tmp := path + ".tmp"
	f, err := fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(tmp, path)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// announce writes the control record that opens a leader epoch (KIP-595).
func (b *Broker) announce(l *log.Log, epoch int32) error {
	self := []metadata.Voter{{ID: b.nodeID}}
	change := metadata.LeaderChange{LeaderID: b.nodeID, Voters: self, GrantingVoters: self}
	now := time.Now()
	o := batch.Plain()
	o.Control = true
	text := batch.Append(nil, o, []batch.Message{{
		Timestamp: now.UnixMilli(), Key: batch.ControlKey(batch.ControlLeaderChange), Value: change.AppendTo(nil),
	}})
	done, err := l.Append(now, text, log.AppendOptions{Origin: log.Raft, Durable: b.durableAcks, LeaderEpoch: epoch})
	if err != nil {
		return fmt.Errorf("open leader epoch %d of the metadata log: %w", epoch, err)
	}
	if done.Commit != nil {
		<-done.Commit.Done()
		if err := done.Commit.Err(); err != nil {
			return fmt.Errorf("open leader epoch %d of the metadata log: %w", epoch, err)
		}
	}
	return nil
}
