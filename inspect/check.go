package inspect

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

// Options say what Check looks at and how it tells.
type Options struct {
	FS vfs.FS
	// Dirs are data directories, all of one node, or single partitions' directories.
	Dirs []string
	// InUse tells whether a process holds the lock of a data directory, by the name of its
	// .lock file, without taking it.
	InUse func(lockFile string) bool
	// Found is called for each finding, one call at a time, in the order of the directories'
	// and partitions' names.
	Found func(Finding)
	// Progress counts what is done, for who wants to watch; nil: nobody.
	Progress *Progress
	// Stop ends the check early; nil: never.
	Stop <-chan struct{}
}

// Progress is how far a check has come. It may be read at any time.
type Progress struct {
	Bytes      atomic.Int64 // of batches
	Partitions atomic.Int64 // that were checked
	Of         atomic.Int64 // partitions there are
}

// errNothing: there is nothing to look at.
var errNothing = errors.New("it is neither a data directory nor the directory of a partition")

// errStopped: Options.Stop was closed before the end.
var errStopped = errors.New("it was stopped before its end")

// GCPercent is what a process that does nothing but Check or Dump should give to
// debug.SetGCPercent: the few large buffers are then collected before they add up.
const GCPercent = 40

// mostWorkers bounds how many partitions are looked at side by side: each worker holds
// buffers of its own.
const mostWorkers = 4

// Check looks at directories. Its error means that it could not look: a directory is not
// there or cannot be read. What is wrong with what is there are findings.
func Check(o Options) (Summary, error) {
	c := checker{Options: o}
	if c.InUse == nil {
		c.InUse = func(string) bool { return false }
	}
	if c.Progress == nil {
		c.Progress = new(Progress)
	}
	if err := c.open(); err != nil {
		return c.sum, err
	}
	c.run()
	if c.stopped() {
		return c.sum, errStopped
	}
	return c.sum, nil
}

func (c *checker) stopped() bool {
	select {
	case <-c.Stop:
		return true
	default:
		return false
	}
}

// job is one partition's directory to check.
type job struct {
	dir   string
	facts facts
}

// checker is one run of Check.
type checker struct {
	Options
	dirs    []*dataDir
	cluster *cluster
	sum     Summary
}

// open reads what stands in the data directories themselves.
func (c *checker) open() error {
	var partitions []string
	for _, name := range c.Dirs {
		name = filepath.Clean(name)
		list, err := c.FS.ReadDir(name)
		if err != nil {
			return fmt.Errorf("read the directory: %w", err)
		}
		if _, _, ok := log.PartitionOf(filepath.Base(name)); ok && isPartition(list) {
			partitions = append(partitions, name)
			continue
		}
		if !isData(list) {
			return fmt.Errorf("%s: %w", name, errNothing)
		}
		c.dirs = append(c.dirs, c.openDir(name, list))
		c.sum.Directories++
	}
	c.cluster = c.readCluster()
	if len(c.dirs) > 0 {
		c.checkDirs()
	}
	for _, name := range partitions {
		c.single(name)
	}
	return nil
}

// single takes in one partition's directory. What stands around it is used, and not checked.
func (c *checker) single(name string) {
	above := filepath.Dir(name)
	list, err := c.FS.ReadDir(above)
	d := &dataDir{path: above, quiet: true}
	if err == nil && hasFile(list, metaPropertiesFile) {
		around := checker{Options: c.Options}
		d = around.openDir(above, list)
		d.quiet = true
		around.dirs = []*dataDir{d}
		if c.cluster == nil || len(c.dirs) == 0 {
			c.cluster = around.readCluster()
		}
	}
	d.jobs = nil
	d.add(c.cluster, filepath.Base(name))
	d.notes = newNotes()
	c.dirs = append(c.dirs, d)
}

// run checks all partitions, several at a time, and reports in order.
func (c *checker) run() {
	type result struct {
		notes *notes
		sum   Summary
	}
	type ticket struct {
		job
		done chan result
	}
	var all []ticket
	for _, d := range c.dirs {
		for _, j := range d.jobs {
			all = append(all, ticket{j, make(chan result, 1)})
		}
	}
	c.Progress.Of.Store(int64(len(all)))
	var next atomic.Int64
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), mostWorkers, len(all))
	ahead := make(chan struct{}, 64*mostWorkers) // results that wait to be reported
	for range workers {
		wg.Go(func() {
			t := &tools{work: c.Progress, stop: c.Stop}
			for {
				ahead <- struct{}{}
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return
				}
				r := result{notes: newNotes()}
				p := partition{facts: all[i].facts, tools: t, fs: c.FS, dir: all[i].dir, notes: r.notes, sum: &r.sum}
				if !c.stopped() {
					p.check()
				}
				c.Progress.Partitions.Add(1)
				all[i].done <- r
			}
		})
	}
	i := 0
	for _, d := range c.dirs {
		c.report(d.notes)
		c.sum.InUse = c.sum.InUse || d.inUse
		for range d.jobs {
			r := <-all[i].done
			<-ahead
			c.report(r.notes)
			c.sum.add(&r.sum)
			i++
		}
	}
	for range workers { // each took one more than there was
		<-ahead
	}
	wg.Wait()
}

func (s *Summary) add(o *Summary) {
	s.Partitions += o.Partitions
	s.Segments += o.Segments
	s.Batches += o.Batches
	s.Records += o.Records
	s.Bytes += o.Bytes
	s.Unread += o.Unread
}

func (c *checker) report(n *notes) {
	for _, f := range n.all() {
		c.sum.count(f.Grade)
		if c.Found != nil {
			c.Found(f)
		}
	}
}

// cluster is what the metadata log says that matters for files.
type cluster struct {
	known  bool
	topics map[string]*topic
	byID   map[[16]byte]*topic
	nodes  map[int32]bool
	dirs   map[[16]byte]bool // log directories of registered brokers
	policy string            // cleanup.policy of the broker, if the metadata log has it
	full   bool              // there is more than is kept
}

type topic struct {
	name       string
	id         [16]byte
	policy     string // cleanup.policy, "" by default
	remote     bool   // remote.storage.enable: older segments are elsewhere
	partitions int64
}

// maxTopics bounds the topics that are kept of a metadata log.
const maxTopics = 1 << 20

func newCluster() *cluster {
	return &cluster{topics: map[string]*topic{}, byID: map[[16]byte]*topic{}, nodes: map[int32]bool{}, dirs: map[[16]byte]bool{}}
}

// apply takes in one record of the metadata log.
func (c *cluster) apply(m metadata.Message) {
	switch m := m.(type) {
	case *metadata.TopicRecord:
		if len(c.topics) >= maxTopics {
			c.full = true
			return
		}
		t := &topic{name: m.Name, id: m.TopicID}
		if old := c.topics[m.Name]; old != nil {
			delete(c.byID, old.id)
		}
		c.topics[m.Name], c.byID[m.TopicID] = t, t
	case *metadata.RemoveTopicRecord:
		if t := c.byID[m.TopicID]; t != nil {
			delete(c.byID, m.TopicID)
			delete(c.topics, t.name)
		}
	case *metadata.PartitionRecord:
		if t := c.byID[m.TopicID]; t != nil {
			t.partitions = max(t.partitions, int64(m.PartitionID)+1)
		}
	case *metadata.ConfigRecord:
		c.config(m)
	case *metadata.RegisterBrokerRecord:
		c.nodes[m.BrokerID] = true
		for _, id := range m.LogDirs {
			c.dirs[id] = true
		}
	case *metadata.RegisterControllerRecord:
		c.nodes[m.ControllerID] = true
	}
}

// Resource types of ConfigRecord (ConfigResource.Type).
const (
	topicResource  = 2
	brokerResource = 4
)

func (c *cluster) config(m *metadata.ConfigRecord) {
	value := ""
	if m.Value != nil {
		value = *m.Value
	}
	t := c.topics[m.ResourceName]
	switch {
	case m.ResourceType == topicResource && m.Name == "cleanup.policy" && t != nil:
		t.policy = value
	case m.ResourceType == topicResource && m.Name == "remote.storage.enable" && t != nil:
		t.remote = value == "true"
	case m.ResourceType == brokerResource && m.Name == "log.cleanup.policy":
		c.policy = value
	}
}
