package log

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// Special ids of data directories (Kafka's DirectoryId): not told yet, not chosen
// yet, and one that is out of service.
var (
	migratingDir  = [16]byte{}
	unassignedDir = [16]byte{15: 1}
	lostDir       = [16]byte{15: 2}
)

// ErrNoDirectory: a name is not that of a data directory. LOG_DIR_NOT_FOUND.
var ErrNoDirectory = errors.New("no such data directory")

// DirsOptions are what Dirs needs to know beside what each Store does.
type DirsOptions struct {
	Options
	// Names are the data directories (log.dirs), at least one, each once.
	Names []string
	// Metadata is the directory of the metadata log: one of Names, or another one
	// that takes nothing else. Without it nothing goes.
	Metadata string
	// SyncFS tells for each directory whether Options.SyncFS may be used there. nil: for none.
	SyncFS func(name string) bool

	// Assigned tells in which directory the metadata log has a partition, false if it
	// is no partition of this broker.
	Assigned func(topic [16]byte, partition int32) (dir [16]byte, ok bool)
	// Assign records that a partition is in a directory, and returns when the record is
	// on stable storage.
	Assign func(ctx context.Context, topic [16]byte, partition int32, dir [16]byte) error
	// Moved is called when another log takes a log's place, before anybody can append to it.
	Moved func(from, to *Log)
	// MoveRate bounds the bytes that moves copy in a second, all together
	// (replica.alter.log.dirs.io.max.bytes.per.second). nil: no bound.
	MoveRate func() int64
}

// Directory is one data directory of Dirs.
type Directory struct {
	name   string
	only   bool // for the metadata log
	store  *Store
	failed chan struct{} // closed: store is nil for good

	// Guarded by Dirs.mu.
	id       [16]byte
	err      error              // why store is nil
	held     map[place]struct{} // partitions that are in it, or are to be
	future   map[place][]string // directories of copies that an earlier process began
	cordoned bool
}

// Name is the directory's name as the options have it.
func (r *Directory) Name() string { return r.name }

// Failed is closed when the directory goes out of service.
func (r *Directory) Failed() <-chan struct{} {
	if r.store == nil {
		return r.failed
	}
	return r.store.Failed()
}

// Err says why the directory is out of service, nil if it is not.
func (r *Directory) Err() error {
	if r.store == nil {
		return r.err
	}
	return r.store.Err()
}

// Dirs is the data directories of a broker and the logs in them. One of them may
// fail: its logs answer ErrOffline, the others go on. It is safe for concurrent use.
type Dirs struct {
	fs   vfs.FS
	o    DirsOptions
	slog *slog.Logger
	dirs []*Directory

	life     context.Context
	end      context.CancelFunc
	mover    mover
	altering chan struct{}  // whoever holds its one token begins or ends moves
	wg       sync.WaitGroup // the mover's

	mu     sync.Mutex
	homes  map[partitionKey]*Directory // of partitions that were asked for
	wishes map[place]*Directory        // where a log shall be made that there is none of yet
}

// partitionKey names a partition for ever, a place until the topic is deleted.
type partitionKey struct {
	topic     [16]byte
	partition int32
}

// OpenDirs takes the directories for this process. One that cannot be read is out
// of service from the beginning, unless it is the metadata log's or the last one.
// Errors: vfs.ErrLocked if another process has one; a directory named twice.
func OpenDirs(fsys vfs.FS, o DirsOptions) (*Dirs, error) {
	d := &Dirs{fs: fsys, o: o, slog: o.Log, homes: map[partitionKey]*Directory{}, wishes: map[place]*Directory{}, altering: make(chan struct{}, 1)}
	d.life, d.end = context.WithCancel(context.Background())
	if d.slog == nil {
		d.slog = slog.New(slog.DiscardHandler)
	}
	d.mover.init(d)
	names := slices.Clone(o.Names)
	if !slices.Contains(names, o.Metadata) {
		names = append(names, o.Metadata)
	}
	seen := map[string]bool{}
	for i, name := range names {
		clean := filepath.Clean(name)
		if seen[clean] {
			return nil, errors.Join(fmt.Errorf("the data directory %s is named twice in log.dirs: name it once", name), d.Close())
		}
		seen[clean] = true
		r := &Directory{name: name, only: i >= len(o.Names), failed: make(chan struct{}), held: map[place]struct{}{}, future: map[place][]string{}}
		if err := d.openStore(r); err != nil {
			if r.name == o.Metadata || errors.Is(err, vfs.ErrLocked) {
				return nil, errors.Join(err, d.Close())
			}
			d.slog.Error("a data directory cannot be read and stays out of service", "dir", name, "err", err)
			r.err = fmt.Errorf("%w: %w", ErrOffline, err)
			close(r.failed)
		}
		d.dirs = append(d.dirs, r)
	}
	if !slices.ContainsFunc(d.dirs, func(r *Directory) bool { return !r.only && r.store != nil }) {
		return nil, errors.Join(errors.New("none of the data directories of log.dirs can be used"), d.Close())
	}
	d.wg.Go(d.mover.run)
	return d, nil
}

// openStore opens one directory and lists what it holds.
func (d *Dirs) openStore(r *Directory) error {
	o := d.o.Options
	o.Cleaner = o.Cleaner.share(len(d.o.Names))
	o.SyncFS = d.o.SyncFS != nil && d.o.SyncFS(r.name)
	s, err := OpenStore(d.fs, r.name, o)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", r.name, err)
	}
	entries, err := d.fs.ReadDir(r.name)
	if err != nil {
		return errors.Join(worldly("read data directory "+r.name, err), s.Close())
	}
	for _, e := range entries {
		if p, ok := placeOf(e.Name()); ok && e.IsDir() {
			r.held[p] = struct{}{}
		}
		if p, ok := futureOf(e.Name()); ok && e.IsDir() {
			r.future[p] = append(r.future[p], filepath.Join(r.name, e.Name()))
		}
	}
	r.store = s
	return nil
}

// Directories are all of them, in the order of the options. The metadata log's own
// comes last if it has one.
func (d *Dirs) Directories() []*Directory { return d.dirs }

// ID is the directory's id, zero if it is not known.
func (d *Dirs) ID(r *Directory) [16]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return r.id
}

// SetID tells the id of a directory, from its meta.properties. Error: two have the same.
func (d *Dirs) SetID(r *Directory, id [16]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, other := range d.dirs {
		if other != r && other.id == id {
			return fmt.Errorf("the data directories %s and %s have the same directory.id %s: one is a copy of the other", other.name, r.name, formatID(id))
		}
	}
	r.id = id
	return nil
}

// Full tells that nothing new should be begun: the metadata log's disk is full, or each that could take a
// partition.
func (d *Dirs) Full() bool {
	if d.metadata().store.Full() {
		return true
	}
	return !slices.ContainsFunc(d.online(), func(r *Directory) bool { return !r.only && !r.store.Full() })
}

// Essential is Store.Essential for what is written beside the metadata log.
func (d *Dirs) Essential(f func() error) error { return d.metadata().store.Essential(f) }

// Fail takes a directory out of service for a reason that its store cannot know.
func (d *Dirs) Fail(r *Directory, cause error) {
	if r.store != nil {
		_ = r.store.fail(cause)
	}
}

// Wake pokes all who wait for news of logs in a directory that has failed.
func (d *Dirs) Wake(r *Directory) {
	if r.store == nil {
		return
	}
	for _, l := range r.store.open() {
		l.watchers.poke()
	}
}

// Cordon keeps new partitions out of the named directories (KIP-1066), and lets
// them into all others. "*" means all.
func (d *Dirs) Cordon(names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.dirs {
		r.cordoned = slices.Contains(names, r.name) || slices.Contains(names, "*")
	}
}

// SetCleaner is Store.SetCleaner for all directories, which share what it allows.
func (d *Dirs) SetCleaner(config CleanerConfig) {
	for _, r := range d.online() {
		r.store.SetCleaner(config.share(len(d.o.Names)))
	}
}

// share is one of n equal parts of the memory and the rate.
func (c CleanerConfig) share(n int) CleanerConfig {
	c.DedupeBytes, c.IOBytes = c.DedupeBytes/int64(n), c.IOBytes/n
	c.MaxBytesPerSecond /= float64(n)
	return c
}

// CleanerStats are those of all directories: sums, and the largest of what cannot be added. Of
// the last logs cleaned that which took longest is told.
func (d *Dirs) CleanerStats() CleanerStats {
	var all CleanerStats
	for i, r := range d.online() {
		s := r.store.CleanerStats()
		all.Cleaned += s.Cleaned
		all.Uncleanable += s.Uncleanable
		all.UncleanableBytes += s.UncleanableBytes
		all.DirtyRatio, all.Delay = max(all.DirtyRatio, s.DirtyRatio), max(all.Delay, s.Delay)
		if all.Idle = max(all.Idle, s.Idle); i == 0 || s.Duration > all.Duration {
			all.Duration, all.BytesRead, all.BytesWritten, all.MapUse = s.Duration, s.BytesRead, s.BytesWritten, s.MapUse
		}
	}
	return all
}

// Of is the directory that a log is in.
func (d *Dirs) Of(l *Log) *Directory {
	for _, r := range d.dirs {
		if r.store == l.store {
			return r
		}
	}
	return nil
}

// Clean tells whether all directories were left by a clean stop.
func (d *Dirs) Clean() bool {
	return !slices.ContainsFunc(d.dirs, func(r *Directory) bool { return r.store == nil || !r.store.Clean() })
}

// SetBrokerEpoch sets what the markers of a clean stop say about this broker.
func (d *Dirs) SetBrokerEpoch(epoch int64) {
	for _, r := range d.online() {
		r.store.SetBrokerEpoch(epoch)
	}
}

// online are the directories in service.
func (d *Dirs) online() []*Directory {
	return slices.DeleteFunc(slices.Clone(d.dirs), func(r *Directory) bool { return r.Err() != nil })
}

// OpenMetadata opens the metadata log, see Store.Open.
func (d *Dirs) OpenMetadata(topic string, id [16]byte, c Config) (*Log, error) {
	return d.metadata().store.Open(topic, 0, id, c)
}

// MetadataErr says why the metadata log's directory is out of service, nil if it is not.
func (d *Dirs) MetadataErr() error { return d.metadata().Err() }

func (d *Dirs) metadata() *Directory {
	return d.dirs[slices.IndexFunc(d.dirs, func(r *Directory) bool { return r.name == d.o.Metadata })]
}

// Open opens the log of a partition, see Store.Open. One that is in no directory
// gets a place: where Wish said, else where the metadata log has it, else the
// directory in service with the fewest partitions (LogManager.nextLogDirs). ErrOffline
// where the partition is, or may be, in a directory out of service.
func (d *Dirs) Open(topic string, partition int32, id [16]byte, c Config) (*Log, error) {
	p, key := place{topic, partition}, partitionKey{id, partition}
	d.mu.Lock()
	r := d.homes[key]
	d.mu.Unlock()
	if r == nil {
		assigned, _ := d.assigned(key)
		found, err := d.find(p, id, assigned)
		if err != nil {
			return nil, err
		}
		if r, err = d.settle(p, key, assigned, found); err != nil {
			return nil, err
		}
	}
	if r.store == nil {
		return nil, r.err
	}
	l, err := r.store.Open(topic, partition, id, c)
	if err == nil {
		d.resume(l)
	}
	return l, err
}

func (d *Dirs) assigned(key partitionKey) (dir [16]byte, ok bool) {
	if d.o.Assigned == nil {
		return unassignedDir, true
	}
	return d.o.Assigned(key.topic, key.partition)
}

// find looks for the directory that has a partition on disk, nil if none has.
func (d *Dirs) find(p place, id, assigned [16]byte) (*Directory, error) {
	offline := fmt.Errorf("%w: %s is in a directory that is out of service", ErrOffline, p)
	lost := d.lost(assigned)
	if lost && assigned != migratingDir { // a copy elsewhere is an old one
		return nil, offline
	}
	if len(d.dirs) == 1 {
		return d.dirs[0], nil
	}
	for _, r := range d.online() {
		has, err := r.store.readID(partitionDir(r.name, p))
		if err == nil && has == id {
			return r, nil
		}
		if err != nil && !missing(err) && !errors.Is(err, errDoubt) {
			return nil, err
		}
	}
	if lost {
		return nil, offline
	}
	return nil, nil
}

// lost tells that a partition of this directory id is in none that is in service.
func (d *Dirs) lost(assigned [16]byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	down := false
	for _, r := range d.dirs {
		if r.Err() == nil && r.id == assigned && !r.only {
			return false
		}
		down = down || r.Err() != nil
	}
	return down && assigned != unassignedDir
}

// settle decides where a partition is from now on.
func (d *Dirs) settle(p place, key partitionKey, assigned [16]byte, found *Directory) (*Directory, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.homes[key]; r != nil {
		return r, nil
	}
	r := found
	if r == nil {
		r = d.choose(p, assigned)
	}
	if r == nil {
		return nil, fmt.Errorf("%w: no directory is in service for %s", ErrOffline, p)
	}
	delete(d.wishes, p)
	d.homes[key] = r
	r.held[p] = struct{}{}
	return r, nil
}

// choose picks the directory of a new partition. The caller holds d.mu.
func (d *Dirs) choose(p place, assigned [16]byte) *Directory {
	if r := d.wishes[p]; r != nil && r.Err() == nil {
		return r
	}
	var best *Directory
	for _, r := range d.dirs {
		if r.only || r.Err() != nil {
			continue
		}
		if r.id == assigned && assigned != migratingDir {
			return r
		}
		if best == nil || best.cordoned && !r.cordoned || best.cordoned == r.cordoned && d.loadLocked(r) < d.loadLocked(best) {
			best = r
		}
	}
	return best
}

// loadLocked is how many partitions a directory has, those included that are on their way to it.
func (d *Dirs) loadLocked(r *Directory) int { return len(r.held) + d.mover.to(r) }

// Remove takes the log of a partition out of use, see Store.Remove, and the copy of it that grows
// elsewhere.
func (d *Dirs) Remove(topic string, partition int32, id [16]byte) error {
	p, key := place{topic, partition}, partitionKey{id, partition}
	d.mover.cancel(key, true)
	d.mu.Lock()
	home := d.homes[key]
	delete(d.homes, key)
	delete(d.wishes, p)
	d.mu.Unlock()
	var all error
	for _, r := range d.dirs {
		switch err := r.Err(); {
		case err != nil && r == home:
			all = errors.Join(all, err)
		case err == nil && (home == nil || home == r):
			all = errors.Join(all, r.store.Remove(topic, partition, id))
			d.mu.Lock()
			delete(r.held, p)
			d.mu.Unlock()
		}
	}
	return all
}

// SetAsideUnknown is Store.SetAsideUnknown for all directories in service.
func (d *Dirs) SetAsideUnknown() error {
	var all error
	for _, r := range d.online() {
		all = errors.Join(all, r.store.SetAsideUnknown())
	}
	return all
}

// Close ends the moves, finishes all logs and leaves the directories clean, see Store.Close.
func (d *Dirs) Close() error {
	d.end()
	d.mover.close()
	d.wg.Wait()
	errs := make([]error, len(d.dirs))
	var wg sync.WaitGroup
	for i, r := range d.dirs {
		if r.store != nil {
			wg.Go(func() { errs[i] = r.store.Close() })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}
