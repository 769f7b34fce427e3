package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

// This file is what the broker has to do with several data directories: who they
// belong to, what the metadata log knows of them, and what happens when one fails.

// openDirs takes the data directories and makes sure that they are this node's.
func (b *Broker) openDirs(o Options) error {
	sync := o.Config.Text("rotpeter.syncfs")
	dirs, err := log.OpenDirs(o.FS, log.DirsOptions{
		Options: b.storeOptions(o), Names: b.logDirs, Metadata: o.Dir,
		SyncFS: func(name string) bool { return sync == "always" || sync == "auto" && vfs.IsMount(o.FS, name) },
		Assigned: func(topic [16]byte, partition int32) ([16]byte, bool) {
			im := b.image()
			if im == nil {
				return metadata.DirectoryUnassigned, false
			}
			t := im.TopicByID(topic)
			if t == nil || t.Partition(partition) == nil {
				return metadata.DirectoryUnassigned, false
			}
			return t.Partition(partition).Directory(b.nodeID), true
		},
		Assign: func(ctx context.Context, topic [16]byte, partition int32, dir [16]byte) error {
			_, err := b.askMetadata(ctx, metadata.AssignDirectories{Assignments: []metadata.DirectoryAssignment{{Topic: topic, Partition: partition, Directory: dir}}})
			return err
		},
		Moved:    func(from, to *log.Log) { b.parts.replace(from, to) },
		MoveRate: func() int64 { return b.conf.Load().Int("replica.alter.log.dirs.io.max.bytes.per.second") },
	})
	if err != nil {
		return fmt.Errorf("open the data directories: %w", err)
	}
	b.dirs = dirs
	return b.identify(o)
}

// identify reads who the directories belong to, and makes new ones this node's.
func (b *Broker) identify(o Options) error {
	var fresh []*log.Directory
	for _, r := range b.dirs.Directories() {
		if r.Err() != nil {
			continue
		}
		p, err := readMetaProperties(o.FS, r.Name())
		path := filepath.Join(r.Name(), metaPropertiesFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fresh = append(fresh, r)
			continue
		case errors.Is(err, errUnreadable) && r.Name() != o.Dir && len(b.dirs.Directories()) > 1:
			b.dirs.Fail(r, err)
			continue
		case err != nil:
			return err
		case p.NodeID != b.nodeID:
			return fmt.Errorf("%s says node.id=%d, but the configuration says %d: use the node's own data directory or set node.id=%d", path, p.NodeID, b.nodeID, p.NodeID)
		case b.clusterID != "" && p.ClusterID != b.clusterID:
			return fmt.Errorf("%s says cluster.id=%s, another data directory says %s: leave one of them out of log.dirs", path, p.ClusterID, b.clusterID)
		}
		b.clusterID = p.ClusterID
		if p.DirectoryID == [16]byte{} {
			p.DirectoryID = b.newID()
			if err := writeFile(o.FS, path, p.Format(time.Now())); err != nil {
				return err
			}
		}
		if err := b.dirs.SetID(r, p.DirectoryID); err != nil {
			return err
		}
	}
	if b.clusterID == "" {
		b.clusterID = metadata.UUIDString(b.newID())
	} else if slices.ContainsFunc(fresh, func(r *log.Directory) bool { return r.Name() == o.Dir }) {
		return fmt.Errorf("%s is to have the metadata log and is new, but another data directory belongs to cluster %s: put the directory with the metadata log back, or name it in metadata.log.dir", o.Dir, b.clusterID)
	}
	for _, r := range fresh {
		p := metadata.MetaProperties{ClusterID: b.clusterID, NodeID: b.nodeID, DirectoryID: b.newID()}
		if r.Name() == o.Dir {
			if err := b.format(o, p.DirectoryID); err != nil {
				return err
			}
		}
		if err := writeFile(o.FS, filepath.Join(r.Name(), metaPropertiesFile), p.Format(time.Now())); err != nil {
			return err
		}
		if err := b.dirs.SetID(r, p.DirectoryID); err != nil {
			return err
		}
	}
	for _, r := range b.dirs.Directories() {
		if r.Name() == o.Dir {
			b.dirID = b.dirs.ID(r)
		}
	}
	return nil
}

var errUnreadable = errors.New("cannot be read")

// readMetaProperties reads the meta.properties of a directory. Errors: fs.ErrNotExist, errUnreadable, or
// what is wrong with its content.
func readMetaProperties(fsys vfs.FS, dir string) (p metadata.MetaProperties, err error) {
	path := filepath.Join(dir, metaPropertiesFile)
	text, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	if err != nil {
		return p, fmt.Errorf("%s %w: %w", path, errUnreadable, err)
	}
	if p, err = metadata.ParseMetaProperties(text); err != nil {
		err = fmt.Errorf("read %s: %w", path, err)
	}
	return p, err
}

// dirIDs are the ids of the directories for partitions that are in service, and whether any is not.
func (b *Broker) dirIDs() (online [][16]byte, offline bool) {
	for _, r := range b.partitionDirs() {
		if r.Err() != nil {
			offline = true
			continue
		}
		online = append(online, b.dirs.ID(r))
	}
	return online, offline
}

// partitionDirs are the directories of log.dirs, in their order.
func (b *Broker) partitionDirs() []*log.Directory { return b.dirs.Directories()[:len(b.logDirs)] }

// cordoned are the directories that get no new partitions, by the name they have
// here: the setting has them as the user wrote them.
func (b *Broker) cordoned() []string {
	c := b.conf.Load()
	given, asWritten := c.Strings("cordoned.log.dirs"), c.LogDirs()
	var names []string
	for i, name := range b.logDirs {
		if slices.Contains(given, "*") || slices.Contains(given, name) || i < len(asWritten) && slices.Contains(given, asWritten[i]) {
			names = append(names, name)
		}
	}
	return names
}

// cordonedIDs are the ids of the directories that get no new partitions.
func (b *Broker) cordonedIDs() [][16]byte {
	names, ids := b.cordoned(), [][16]byte{}
	for _, r := range b.partitionDirs() {
		if id := b.dirs.ID(r); slices.Contains(names, r.Name()) && id != [16]byte{} {
			ids = append(ids, id)
		}
	}
	return ids
}

// watchDirectory waits for the end of a directory.
func (b *Broker) watchDirectory(r *log.Directory) {
	select {
	case <-r.Failed():
		b.directoryFailed(r)
	case <-b.life.Done():
	}
}

// directoryFailed takes the partitions of a directory out of service. Without the
// metadata log's, or without any, nothing can be served (ReplicaManager.handleLogDirFailure).
func (b *Broker) directoryFailed(r *log.Directory) {
	if err := b.dirs.MetadataErr(); err != nil {
		b.fail(fmt.Errorf("the data directory of the metadata log is offline: %w", err))
		return
	}
	if online, _ := b.dirIDs(); len(online) == 0 {
		b.fail(fmt.Errorf("all data directories are offline, %s since now: %w", r.Name(), r.Err()))
		return
	}
	id := b.dirs.ID(r)
	event := metadata.DirectoriesOffline{Directories: [][16]byte{id}}
	b.parts.each(func(l *log.Log) {
		if l.Directory() == r.Name() {
			event.Lost = append(event.Lost, metadata.DirectoryAssignment{Topic: l.TopicID(), Partition: l.Partition()})
		}
	})
	reply, err := b.askMetadata(b.life, event)
	if err != nil {
		if b.life.Err() == nil {
			b.fail(fmt.Errorf("record that data directory %s is offline: %w", r.Name(), err))
		}
		return
	}
	b.dirs.Wake(r)
	b.groups.dropLeaderless()
	b.txns.dropLeaderless()
	b.log.Error("partitions are offline with their data directory; the others go on", "dir", r.Name(), "partitions", reply.(metadata.Offline).Partitions)
}

// placer tells the metadata log in which directories partitions are
// (AssignmentsManager), and has the logs of new partitions opened, which places them.
type placer struct {
	b    *Broker
	wake chan struct{}

	mu       sync.Mutex
	pending  map[partitionKey]struct{}
	cordoned bool // the cordoned directories are to be told
}

func newPlacer(b *Broker) *placer {
	return &placer{b: b, wake: make(chan struct{}, 1), pending: map[partitionKey]struct{}{}}
}

func (p *placer) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// created has the partitions of new topics placed. With one directory there is no choice: their logs are opened
// at their first use.
func (p *placer) created(topics []*metadata.Topic) {
	if len(p.b.logDirs) == 1 || len(topics) == 0 {
		return
	}
	p.mu.Lock()
	for _, t := range topics {
		for i := range t.Partitions {
			p.pending[partitionKey{t.ID, t.Partitions[i].Index}] = struct{}{}
		}
	}
	p.mu.Unlock()
	p.poke()
}

// opened has it recorded where a log is, if that is news.
func (p *placer) opened(t *metadata.Topic, l *log.Log) {
	part := t.Partition(l.Partition())
	if part == nil || part.Directory(p.b.nodeID) == p.b.dirs.ID(p.b.dirs.Of(l)) {
		return
	}
	p.mu.Lock()
	p.pending[partitionKey{l.TopicID(), l.Partition()}] = struct{}{}
	p.mu.Unlock()
	p.poke()
}

// recordAll has it recorded where all partitions are, if the log does not say it. Which
// partitions have a log is seen when they are opened.
func (p *placer) recordAll(im *metadata.Image) {
	p.b.parts.each(func(l *log.Log) {
		if t := im.TopicByID(l.TopicID()); t != nil {
			p.opened(t, l)
		}
	})
}

// recordCordoned has the cordoned directories recorded.
func (p *placer) recordCordoned() {
	p.mu.Lock()
	p.cordoned = true
	p.mu.Unlock()
	p.poke()
}

// run is the placer's goroutine.
func (p *placer) run() {
	for {
		select {
		case <-p.wake:
			if err := p.flush(p.b.life); err != nil && p.b.life.Err() == nil {
				p.b.log.Warn("the directories of partitions are not recorded yet", "err", err)
				select {
				case <-time.After(placerPause):
					p.poke()
				case <-p.b.life.Done():
				}
			}
		case <-p.b.life.Done():
			return
		}
	}
}

// placerPause is the wait before what could not be recorded is tried again.
const placerPause = time.Second

// flush records what is pending.
func (p *placer) flush(ctx context.Context) error {
	p.mu.Lock()
	pending, cordoned := p.pending, p.cordoned
	p.pending, p.cordoned = map[partitionKey]struct{}{}, false
	p.mu.Unlock()
	var event metadata.AssignDirectories
	for _, key := range slices.SortedFunc(maps.Keys(pending), partitionKey.compare) {
		t := p.b.image().TopicByID(key.topic)
		if t == nil || int(key.partition) >= len(t.Partitions) {
			continue
		}
		l, err := p.b.parts.get(t, key.partition)
		if err != nil {
			p.b.logStorage("open a new partition", err)
			continue
		}
		event.Assignments = append(event.Assignments, metadata.DirectoryAssignment{Topic: key.topic, Partition: key.partition, Directory: p.b.dirs.ID(p.b.dirs.Of(l))})
	}
	var err error
	if len(event.Assignments) > 0 {
		_, err = p.b.askMetadata(ctx, event)
	}
	if cordoned && err == nil {
		_, err = p.b.askMetadata(ctx, metadata.CordonDirectories{Directories: p.b.cordonedIDs()})
	}
	if err != nil {
		p.mu.Lock()
		for key := range pending {
			p.pending[key] = struct{}{}
		}
		p.cordoned = p.cordoned || cordoned
		p.mu.Unlock()
	}
	return err
}
