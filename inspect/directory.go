package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

// Files of a data directory (LogManager).
const (
	metaPropertiesFile = "meta.properties"
	cleanShutdownFile  = ".kafka_cleanshutdown"
	lockFile           = ".lock"
	syncFailedFile     = ".rotpeter_sync_failed"
	reserveFile        = ".rotpeter_reserve"      // space for a full disk
	lastReserveFile    = ".rotpeter_reserve_last" // likewise
	damageFile         = ".rotpeter_damage"       // in a partition: what the broker found damaged
	bootstrapFile      = "bootstrap.checkpoint"
	recoveryPointFile  = "recovery-point-offset-checkpoint"
	logStartFile       = "log-start-offset-checkpoint"
	highWatermarkFile  = "replication-offset-checkpoint"
	cleanerFile        = "cleaner-offset-checkpoint"
)

// place names a partition.
type place struct {
	topic     string
	partition int32
}

// maxGone bounds the partitions without a directory that are kept apart.
const maxGone = 1000

// dataDir is a data directory and what its own files say.
type dataDir struct {
	path         string
	clean, inUse bool
	quiet        bool // only its partition is looked at
	around       bool // it is a data directory
	names        []string
	meta         *metadata.MetaProperties
	points       map[string]map[place]int64 // checkpoints by file
	gone         map[place]int64            // partitions that checkpoints name and that are not here, with their largest offset
	notes        *notes
	jobs         []job
}

func hasFile(list []fs.DirEntry, name string) bool {
	return slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() == name })
}

// isData tells a data directory by what is in it.
func isData(list []fs.DirEntry) bool {
	return slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		_, _, partition := log.PartitionOf(e.Name())
		return e.IsDir() && partition || e.Name() == metaPropertiesFile || e.Name() == recoveryPointFile
	})
}

// isPartition tells the directory of a partition by what is in it.
func isPartition(list []fs.DirEntry) bool {
	return slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		_, suffix, ok := log.FileOffset(e.Name())
		return e.Name() == partitionFile || ok && suffix == logSuffix
	})
}

func (d *dataDir) say(g Grade, file string, offset int64, do, format string, args ...any) {
	d.notes.add(Finding{g, filepath.Join(d.path, file), none, offset, fmt.Sprintf(format, args...), do})
}

// openDir reads the files of a data directory.
func (c *checker) openDir(path string, list []fs.DirEntry) *dataDir {
	d := &dataDir{path: path, around: true, notes: newNotes(), points: map[string]map[place]int64{}, gone: map[place]int64{}}
	for _, e := range list {
		d.names = append(d.names, e.Name())
	}
	slices.Sort(d.names)
	d.inUse = hasFile(list, lockFile) && c.InUse(filepath.Join(path, lockFile))
	if d.inUse {
		d.say(Notice, lockFile, none, "stop the broker to be sure", "a broker has the directory open: what is said about the ends of logs may be under way")
	}
	c.readMarker(d)
	c.readMeta(d)
	for _, name := range []string{recoveryPointFile, logStartFile, highWatermarkFile, cleanerFile} {
		c.readOffsets(d, name)
	}
	for _, e := range list {
		c.sortName(d, e)
	}
	return d
}

// readMarker reads .kafka_cleanshutdown (CleanShutdownFileHandler).
func (c *checker) readMarker(d *dataDir) {
	b, err := readSmall(c.FS, filepath.Join(d.path, cleanShutdownFile))
	switch {
	case missing(err):
		if !d.inUse {
			d.say(Notice, cleanShutdownFile, none, "the next start recovers its logs", "it is missing: the directory was not left by a clean stop")
		}
		return
	case err != nil:
		d.say(Derived, cleanShutdownFile, none, "delete it", "it cannot be read: %v", err)
		return
	}
	d.clean = true
	if len(bytes.TrimSpace(b)) == 0 { // of older Kafkas
		return
	}
	var marker map[string]int64
	err = json.Unmarshal(b, &marker)
	version, ok := marker["version"]
	if _, epoch := marker["brokerEpoch"]; err != nil || !epoch || !ok || version != 0 {
		d.say(Derived, cleanShutdownFile, none, "delete it: the next start recovers the logs", "it is not what a clean stop writes: %q", cut(b))
	}
}

// cut shortens what is quoted from a file.
func cut(b []byte) []byte { return b[:min(len(b), 60)] }

func (c *checker) readMeta(d *dataDir) {
	b, err := readSmall(c.FS, filepath.Join(d.path, metaPropertiesFile))
	if err == nil {
		var m metadata.MetaProperties
		if m, err = metadata.ParseMetaProperties(b); err == nil {
			d.meta = &m
			return
		}
	}
	if missing(err) {
		d.say(Damage, metaPropertiesFile, none, "restore it, or write cluster.id, node.id, directory.id and version=1 into it", "it is missing: no broker starts on the directory")
		return
	}
	d.say(Damage, metaPropertiesFile, none, "restore it", "no broker starts on the directory: %v", err)
}

func (c *checker) readOffsets(d *dataDir, name string) {
	do := "delete it while the broker is stopped: it is made again"
	if name == logStartFile {
		do = "write it again by hand, or delete it while the broker is stopped: records that were deleted may come back"
	}
	b, err := readSmall(c.FS, filepath.Join(d.path, name))
	if missing(err) {
		if d.clean && name != cleanerFile && slices.ContainsFunc(d.names, func(n string) bool { _, _, ok := log.PartitionOf(n); return ok }) {
			d.say(Derived, name, none, "the next start makes it again", "it is missing after a clean stop")
		}
		return
	}
	var lines []log.PartitionOffset
	if err == nil {
		lines, err = log.ParseOffsets(b)
		switch {
		case err != nil || len(b) > 0:
		case name == cleanerFile:
			d.say(Notice, name, none, "", "it is empty, as Kafka makes it before it compacts for the first time")
		default:
			err = fmt.Errorf("it is empty")
		}
	}
	if err != nil {
		d.say(Derived, name, none, do, "%v", err)
		return
	}
	m := map[place]int64{}
	for _, l := range lines {
		p := place{l.Topic, l.Partition}
		if _, there := slices.BinarySearch(d.names, p.String()); there {
			m[p] = l.Offset
		} else if _, known := d.gone[p]; known || len(d.gone) < maxGone {
			d.gone[place{strings.Clone(p.topic), p.partition}] = max(d.gone[p], l.Offset)
		}
	}
	d.points[name] = m
}

// sortName takes one name of the directory.
func (c *checker) sortName(d *dataDir, e fs.DirEntry) {
	name := e.Name()
	if !e.IsDir() {
		switch {
		case slices.Contains([]string{metaPropertiesFile, cleanShutdownFile, lockFile, recoveryPointFile, logStartFile, highWatermarkFile, cleanerFile}, name):
		case name == bootstrapFile:
			p := partition{fs: c.FS, dir: d.path, notes: d.notes, sum: &c.sum, tools: &tools{work: c.Progress}}
			p.checkMetadataSnapshot(name)
		case name == syncFailedFile:
			d.say(Damage, name, none, "start the broker once: it writes what is not sure again", "a sync failed, and what is read may not be on disk")
		case name == reserveFile, name == lastReserveFile:
		case strings.HasSuffix(name, ".tmp"):
			d.say(Notice, name, none, "it may be deleted", "a file that was not written to its end")
		default:
			d.say(Notice, name, none, "", "a file that does not belong here")
		}
		return
	}
	_, _, ok := log.PartitionOf(name)
	switch {
	case ok || name == "lost+found":
	case strings.HasSuffix(name, "-delete"):
		d.say(Notice, name, none, "the next start removes it", "a partition that is being deleted")
	case strings.HasSuffix(name, "-stray"):
		d.say(Notice, name, none, "delete it if its data is not wanted", "a partition that was set aside, because the metadata log did not know it")
	case strings.HasSuffix(name, "-future"):
		d.say(Notice, name, none, "", "a partition that is being moved here from another directory")
	default:
		d.say(Notice, name, none, "", "a directory that does not belong here")
	}
}

// add makes the job of a partition's directory.
func (d *dataDir) add(c *cluster, name string) {
	topic, partition, ok := log.PartitionOf(name)
	f := facts{around: d.around, clean: d.clean || !d.around, inUse: d.inUse, as: kindOf(topic)}
	at := func(file string) int64 {
		if v, there := d.points[file][place{topic, partition}]; ok && there {
			return v
		}
		return none
	}
	f.recovery, f.start, f.high, f.cleaned = at(recoveryPointFile), at(logStartFile), at(highWatermarkFile), at(cleanerFile)
	t := c.topics[topic]
	if topic == metadata.ClusterMetadataTopic {
		id := metadata.ClusterMetadataTopicID
		f.id = &id
	} else if t != nil {
		f.id, f.remote = &t.id, t.remote
	}
	f.compact = c.compact(topic, f.cleaned, d.around)
	d.jobs = append(d.jobs, job{filepath.Join(d.path, name), f})
}

// compact tells whether offsets of a topic may be missing.
func (c *cluster) compact(name string, cleaned int64, around bool) answer {
	switch t := c.topics[name]; {
	case cleaned >= 0, t != nil && strings.Contains(t.policy, "compact"), t != nil && t.policy == "" && strings.Contains(c.policy, "compact"):
		return yes
	case name == metadata.ClusterMetadataTopic:
		return no
	case kindOf(name) == KindOffsets || kindOf(name) == KindTransactions:
		return yes
	case t == nil || !around:
		return unknown
	}
	return no
}

// checkDirs holds the directories against each other and the metadata log, and lists what
// there is to check in them.
func (c *checker) checkDirs() {
	seen := map[string]string{} // partition -> directory
	for i, d := range c.dirs {
		c.checkMeta(i, d)
		for _, name := range d.names {
			topic, partition, ok := log.PartitionOf(name)
			if !ok && !strings.HasSuffix(name, "-stray") && !strings.HasSuffix(name, "-future") {
				continue
			}
			d.add(c.cluster, name)
			if !ok {
				continue
			}
			if other := seen[name]; other != "" {
				d.say(Damage, name, none, "keep the one with the data, and move the other away", "the partition is in %s, too", other)
			}
			seen[name] = d.path
			c.checkPlace(d, name, topic, partition)
		}
	}
	for _, d := range c.dirs {
		c.checkGone(d, seen)
	}
}

// checkPlace holds a partition's directory against the metadata log.
func (c *checker) checkPlace(d *dataDir, name, topic string, partition int32) {
	if !c.cluster.known || topic == metadata.ClusterMetadataTopic {
		return
	}
	const do = "if the topic was not deleted, restore the metadata log"
	if t := c.cluster.topics[topic]; t == nil {
		d.say(Notice, name, none, do, "the metadata log does not know the topic: a start sets the directory aside or removes it")
	} else if int64(partition) >= t.partitions {
		d.say(Notice, name, none, do, "the topic has %d partitions by the metadata log: a start sets the directory aside", t.partitions)
	}
}

func (c *checker) checkMeta(i int, d *dataDir) {
	if d.meta == nil {
		return
	}
	for _, other := range c.dirs[:i] {
		if other.meta == nil {
			continue
		}
		if other.meta.ClusterID != d.meta.ClusterID || other.meta.NodeID != d.meta.NodeID {
			d.say(Damage, metaPropertiesFile, none, "a broker's directories must all be its own", "cluster %s node %d, and %s belongs to cluster %s node %d",
				d.meta.ClusterID, d.meta.NodeID, other.path, other.meta.ClusterID, other.meta.NodeID)
		}
		if other.meta.DirectoryID == d.meta.DirectoryID && d.meta.DirectoryID != [16]byte{} {
			d.say(Damage, metaPropertiesFile, none, "give one a new id", "directory.id is that of %s, too", other.path)
		}
	}
	if !c.cluster.known || len(c.cluster.nodes) == 0 {
		return
	}
	if !c.cluster.nodes[d.meta.NodeID] {
		d.say(Derived, metaPropertiesFile, none, "put the right node.id back", "node.id %d was never registered with the metadata log", d.meta.NodeID)
	}
	// A directory for the metadata log alone is none of the broker's log directories.
	logs := slices.ContainsFunc(d.names, func(name string) bool { _, _, ok := log.PartitionOf(name); return ok && name != metadataDir })
	if id := d.meta.DirectoryID; logs && len(c.cluster.dirs) > 0 && !c.cluster.dirs[id] {
		d.say(Derived, metaPropertiesFile, none, "put the right directory.id back", "directory.id %s was never registered with the metadata log", metadata.UUIDString(id))
	}
}

// checkGone looks for partitions that checkpoints name and that have no directory.
func (c *checker) checkGone(d *dataDir, seen map[string]string) {
	gone := d.gone
	maps.DeleteFunc(gone, func(p place, _ int64) bool { return seen[p.String()] != "" }) // it moved to another directory
	places := make([]place, 0, len(gone))
	for p := range gone {
		places = append(places, p)
	}
	slices.SortFunc(places, place.compare)
	for _, p := range places {
		t := c.cluster.topics[p.topic]
		if c.cluster.known && t != nil && gone[p] > 0 {
			d.say(Damage, recoveryPointFile, gone[p], "restore it", "the directory of %s is gone, and checkpoints say that the partition had offsets up to %d", p, gone[p])
		} else if !d.inUse {
			d.say(Notice, recoveryPointFile, gone[p], "", "checkpoints name %s, which has no directory", p)
		}
	}
	if !d.clean || d.inUse {
		return
	}
	for _, file := range []string{recoveryPointFile, highWatermarkFile} {
		for _, name := range d.names {
			topic, partition, ok := log.PartitionOf(name)
			if !ok || d.points[file] == nil || topic == metadata.ClusterMetadataTopic {
				continue
			}
			if _, there := d.points[file][place{topic, partition}]; !there {
				d.say(Notice, file, none, "", "%s is not named after a clean stop", name)
			}
		}
	}
}

func (p place) String() string { return fmt.Sprintf("%s-%d", p.topic, p.partition) }

func (p place) compare(q place) int {
	if n := strings.Compare(p.topic, q.topic); n != 0 {
		return n
	}
	return int(p.partition) - int(q.partition)
}
