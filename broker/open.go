package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

const (
	metaPropertiesFile = "meta.properties"
	quorumStateFile    = "quorum-state"
)

// open brings up everything that serving needs, from the directory to the image.
func (b *Broker) open(ctx context.Context, o Options) error {
	if err := b.openDirs(o); err != nil {
		return err
	}
	b.placer = newPlacer(b)
	b.parts = newPartitions(b.dirs, b.topicLogConfig, b.image, b.placer.opened)
	b.groups = newGroups(b, groupOptions(o.Config, b.newID))
	b.txns = newTransactions(b, o.Config)
	if err := b.openMetadata(ctx, o); err != nil {
		return err
	}
	if err := b.dirs.Begin(); err != nil {
		return fmt.Errorf("open the data directories: %w", err)
	}
	b.producerIDs = newProducerIDs(b.reserveProducerIDs)
	b.wg.Go(b.reap)
	b.wg.Go(b.forgetOffsets)
	b.wg.Go(b.placer.run)
	for _, r := range b.dirs.Directories() {
		if r.Err() == nil {
			b.wg.Go(func() { b.watchDirectory(r) })
		}
	}
	b.wg.Go(func() { b.snapshots.run(b.life) })
	return nil
}

// openMetadata takes the lead of the metadata log in a new epoch, replays it and
// registers this start of the broker.
func (b *Broker) openMetadata(ctx context.Context, o Options) error {
	if err := prepareMetadataDir(o); err != nil {
		return err
	}
	l, err := b.dirs.OpenMetadata(metadata.ClusterMetadataTopic, metadata.ClusterMetadataTopicID, metadataLogConfig(o.Config))
	if err != nil {
		return fmt.Errorf("open the metadata log: %w", err)
	}
	b.metaLog = l
	b.snapshots = newSnapshots(o.FS, metadataDir(o), l, b.log, newSnapshotSettings(o.Config))
	epoch, err := b.lead(o, l, b.snapshots)
	if err != nil {
		return err
	}
	b.meta = coordinator.NewShell(coordinator.ShellOptions{
		Name:      metadata.ClusterMetadataTopic,
		New:       func() coordinator.Shard { return metadata.NewShard(b.shardOptions()) },
		Journal:   &journal{open: func() (*log.Log, error) { return l, nil }, epoch: epoch, origin: log.Raft, durable: b.durableAcks, snapshots: b.snapshots},
		Committed: b.publish,
		Log:       b.log.With("coordinator", metadata.ClusterMetadataTopic),
	})
	if _, err := b.askMetadata(ctx, bootstrapRecords(o)); err != nil {
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
		Quorum:                   b.presentQuorum(),
		Voter:                    b.voter(b.dirID),
	}
}

// presentQuorum is what the control records say that are durable: they may be in a
// snapshot only, of which the shard loads the other records.
func (b *Broker) presentQuorum() metadata.Quorum {
	if im := b.image(); im != nil {
		return im.Quorum
	}
	return b.quorum
}

// registration is this start of the node as the metadata log records it.
func (b *Broker) registration() metadata.RegisterBroker {
	directories, offline := b.dirIDs()
	r := metadata.RegisterBroker{
		Incarnation: metadata.RandomUUID(b.newID()), ControllerIncarnation: metadata.RandomUUID(b.newID()),
		Epoch: b.metaLog.Offsets().End, Rack: b.rack, Directories: directories, Cordoned: b.cordonedIDs(), SomeOffline: offline, Clean: b.dirs.Clean(),
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
