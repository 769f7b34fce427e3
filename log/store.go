package log

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotpeter/rotpeter/internal/poison"
	"github.com/rotpeter/rotpeter/internal/vfs"
)

// Options are what a Store needs to know. NewID and Random are required.
type Options struct {
	Log    *slog.Logger // nil: nothing is logged
	NewID  func() [16]byte
	Random func() int64 // for segment.jitter.ms; not negative

	// Known tells whether a topic id belongs to a topic of the cluster at this moment. A
	// directory of an unknown id is in nobody's way. nil: every id is known.
	Known func(id [16]byte) bool

	// SyncFS lets the flusher sync the whole file system where many logs are dirty.
	SyncFS bool
	// OpenFiles bounds how many files are kept open; 0 means 1024.
	OpenFiles int

	InitialDelay            time.Duration // log.initial.task.delay.ms: before the first of each task below
	RetentionCheck          time.Duration // log.retention.check.interval.ms
	Checkpoint              time.Duration // log.flush.offset.checkpoint.interval.ms
	StartCheckpoint         time.Duration // log.flush.start.offset.checkpoint.interval.ms
	ProducerExpiration      time.Duration // producer.id.expiration.ms
	ProducerExpirationCheck time.Duration // producer.id.expiration.check.interval.ms

	Cleaner CleanerConfig // the zero value: nothing is compacted

	RecordsBytes int64       // what a client's batch may be decompressed; 0 means batch.MaxRecordsBytes
	Short        func() bool // memory is short: logs remember fewer producers; nil: it never is
}

// defaultOpenFiles is what the usual limit of 1024 descriptors allows beside connections
// once Go has raised it; files in use or not yet synced may push the number above.
const defaultOpenFiles = 1024

// Store is a data directory and the logs in it. It is safe for concurrent use.
type Store struct {
	fs   vfs.FS
	dir  string
	o    Options
	slog *slog.Logger
	lock io.Closer

	files   fileCache
	tools   poison.Pool[tools]
	windows poison.Pool[window]
	wide    poison.Pool[[wideBytes]byte]
	pieces  poison.Pool[indexPiece]

	flusher flusher
	janitor janitor
	cleaner cleaner
	spare   spare

	complained atomic.Int64   // when a full disk was last reported, nanoseconds
	keeper     sync.WaitGroup // the goroutines of janitor and cleaner, which wait for the flusher's
	wg         sync.WaitGroup // the flusher's

	failure atomic.Pointer[error]
	failed  chan struct{}
	once    sync.Once

	clean       bool
	unloaded    atomic.Bool // a log could not be opened, and may be half recovered
	suspect     bool        // an earlier sync failed, and no clean stop followed
	brokerEpoch atomic.Int64

	saving chan struct{} // whoever holds its one token writes checkpoints

	mu     sync.Mutex
	closed bool
	logs   map[place]*Log
	future map[place]*Log          // copies that are to take a log's place, see move.go
	busy   map[place]chan struct{} // being opened or removed
	points checkpoints             // of logs that are not open or have no directory
	stale  map[place]struct{}      // removed, and perhaps still in the checkpoints' files
}

// checkpoints are the offset files of the directory.
type checkpoints struct {
	recovery, start, high, cleaned map[place]int64
}

func (c *checkpoints) each() [4]struct {
	file    string
	offsets *map[place]int64
} {
	return [4]struct {
		file    string
		offsets *map[place]int64
	}{{recoveryPointFile, &c.recovery}, {logStartFile, &c.start}, {highWatermarkFile, &c.high}, {cleanerFile, &c.cleaned}}
}

// OpenStore takes the directory for this process, making it if there is none. Logs
// are opened one by one. Error: vfs.ErrLocked if another process has it.
func OpenStore(fsys vfs.FS, dir string, o Options) (*Store, error) {
	s := &Store{
		fs: fsys, dir: dir, o: o, slog: o.Log,
		failed: make(chan struct{}), saving: make(chan struct{}, 1),
		logs: map[place]*Log{}, future: map[place]*Log{}, busy: map[place]chan struct{}{}, stale: map[place]struct{}{},
	}
	if s.slog == nil {
		s.slog = slog.New(slog.DiscardHandler)
	}
	s.files.fs, s.files.limit = fsys, o.OpenFiles
	if s.files.limit == 0 {
		s.files.limit = defaultOpenFiles
	}
	s.flusher.init(s)
	s.janitor.init(s)
	s.cleaner.init(s)
	if err := makeDir(fsys, filepath.Clean(dir)); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	s.lock = lock
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.spare.init(s)
	s.wg.Go(s.flusher.run)
	s.keeper.Go(s.janitor.run)
	s.keeper.Go(s.cleaner.run)
	return s, nil
}

// makeDir makes a directory and those above it, and their names durable. One that is
// there but holds no checkpoint may be what a start left that ended before the names
// were durable, so that is done again: else a power cut takes the whole directory,
// however well its files are synced.
func makeDir(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(filepath.Join(dir, recoveryPointFile)); !missing(err) {
		return err
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for above := filepath.Dir(dir); above != dir; dir, above = above, filepath.Dir(above) {
		// What may not be read here was not made here.
		if err := fsys.SyncDir(above); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// begin reads what the last process left and takes its marker away.
func (s *Store) begin() error {
	for _, c := range s.points.each() {
		b, err := readFile(s.fs, filepath.Join(s.dir, c.file), maxCheckpointBytes)
		if err == nil && c.file == logStartFile && len(b) == 0 {
			err = errors.New("it is empty: restore it, or remove it to have each log begin with its first segment")
		}
		if err == nil {
			*c.offsets, err = parseOffsets(b)
		}
		if missing(err) {
			*c.offsets, err = map[place]int64{}, nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", c.file, err)
		}
	}
	if err := s.takeMarker(); err != nil {
		return err
	}
	_, err := s.fs.Stat(filepath.Join(s.dir, syncFailedFile))
	if s.suspect = err == nil; err != nil && !missing(err) {
		return fmt.Errorf("look for %s: %w", syncFailedFile, err)
	}
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("read the data directory: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasSuffix(e.Name(), deleteDirSuffix) {
			s.janitor.later(time.Time{}, filepath.Join(s.dir, e.Name()))
		}
	}
	return nil
}

// cleanShutdown is the content of .kafka_cleanshutdown (CleanShutdownFileHandler).
type cleanShutdown struct {
	Version     int   `json:"version"`
	BrokerEpoch int64 `json:"brokerEpoch"`
}

// takeMarker remembers whether the last stop was clean. From here on it is not, until Close.
func (s *Store) takeMarker() error {
	name := filepath.Join(s.dir, cleanShutdownFile)
	b, err := readFile(s.fs, name, maxCheckpointBytes)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", cleanShutdownFile, err)
	}
	var m cleanShutdown
	s.clean = len(bytes.TrimSpace(b)) == 0 || json.Unmarshal(b, &m) == nil // older Kafkas leave an empty file
	if err := s.fs.Remove(name); err != nil {
		return fmt.Errorf("remove %s: %w", cleanShutdownFile, err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("remove %s: %w", cleanShutdownFile, err)
	}
	return nil
}

// Clean tells whether the directory was left by a clean stop.
func (s *Store) Clean() bool { return s.clean }

// SetBrokerEpoch sets what the marker of a clean stop says about this broker.
func (s *Store) SetBrokerEpoch(epoch int64) { s.brokerEpoch.Store(epoch) }

// Failed is closed when the directory goes out of service.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err says why the directory is out of service: ErrOffline. nil while it is not.
func (s *Store) Err() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail takes the directory out of service: data that should be durable may not be,
// and no later sync can be believed (decision 4).
func (s *Store) fail(cause error) error {
	s.once.Do(func() {
		err := fmt.Errorf("%w: %w", ErrOffline, cause)
		s.failure.Store(&err)
		s.slog.Error("the data directory is out of service", "dir", s.dir, "err", cause)
		// Pages that could not be written may still be read, as if they were on disk, and a
		// later sync says nothing about them. The next start must write them again. It needs
		// this file only while the page cache lives, so the file need not be durable.
		if err := writeFile(s.fs, filepath.Join(s.dir, syncFailedFile), []byte(cause.Error()+"\n"), false); err != nil {
			s.slog.Error("restart the machine before this data directory is used again: what is read may not be on disk", "dir", s.dir, "err", err)
		}
		close(s.failed)
	})
	return s.Err()
}

// Open opens the log of a partition of the topic with this id, recovering it if
// need be; the same log again if it is open. Nothing is written for a partition without data.
//
// A directory of that name that belongs to an unknown topic is set aside as Kafka
// does, "-stray"; one that belongs to a known topic makes the caller the one who is
// late: ErrClosed. Other errors: ErrStorage, ErrOffline.
func (s *Store) Open(topic string, partition int32, id [16]byte, c Config) (*Log, error) {
	p := place{topic, partition}
	for {
		l, err := s.reserve(p)
		if err != nil {
			return nil, err
		}
		if l == nil {
			break
		}
		if l.id == id {
			return l, nil
		}
		if s.known(l.id) {
			return nil, fmt.Errorf("%w: %s belongs to topic id %s", ErrClosed, p, formatID(l.id))
		}
		if err := s.Remove(topic, partition, l.id); err != nil {
			return nil, err
		}
	}
	l, err := s.load(p, id, c)
	if err != nil {
		s.unloaded.Store(true)
	}
	s.mu.Lock()
	if err == nil && s.closed {
		err = ErrClosed
	}
	if err == nil {
		s.logs[p] = l
		if l.onDisk {
			s.dropPointsLocked(p)
		}
	}
	s.mu.Unlock()
	s.unreserve(p)
	if err != nil {
		return nil, err
	}
	s.configured(&c)
	return l, nil
}

// reserve keeps others from opening or removing a place; it returns the open log
// instead if there is one.
func (s *Store) reserve(p place) (*Log, error) {
	for {
		s.mu.Lock()
		busy, l := s.busy[p], s.logs[p]
		switch {
		case s.closed:
			s.mu.Unlock()
			return nil, ErrClosed
		case busy == nil:
			err := s.Err()
			if l == nil && err == nil {
				s.busy[p] = make(chan struct{})
			}
			s.mu.Unlock()
			return l, err
		}
		s.mu.Unlock()
		<-busy
	}
}

func (s *Store) unreserve(p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.busy[p])
	delete(s.busy, p)
}

func (s *Store) known(id [16]byte) bool { return s.o.Known == nil || s.o.Known(id) }

// open returns the open logs, in no order.
func (s *Store) open() []*Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Log, 0, len(s.logs))
	for _, l := range s.logs {
		all = append(all, l)
	}
	return all
}

// jitter is by how many milliseconds a new segment's time comes early.
func (s *Store) jitter(c *Config) int64 {
	if most := min(c.SegmentJitterMillis, c.SegmentMillis); most > 0 {
		return s.o.Random() % most
	}
	return 0
}

// saveStarts makes the log starts durable.
func (s *Store) saveStarts() error { return s.save(logStartFile) }

// saveAll makes all checkpoints durable.
func (s *Store) saveAll() error {
	return s.save(recoveryPointFile, logStartFile, highWatermarkFile, cleanerFile)
}

// save writes the named checkpoints. A full disk leaves the old ones in place.
func (s *Store) save(files ...string) error {
	s.saving <- struct{}{}
	defer func() { <-s.saving }()
	now, stale := s.checkpoints()
	for _, c := range now.each() {
		if !slices.Contains(files, c.file) {
			continue
		}
		text := formatOffsets(*c.offsets)
		if c.file == logStartFile {
			text = sealLines(text)
		}
		err := s.Essential(func() error { return replaceDurably(s.fs, filepath.Join(s.dir, c.file), text) })
		if err != nil {
			return s.unsaved(err)
		}
		s.settled(c.file, *c.offsets)
	}
	if len(files) == len(now.each()) {
		s.mu.Lock()
		for _, p := range stale {
			delete(s.stale, p)
		}
		s.mu.Unlock()
	}
	return nil
}

// settled takes over that a checkpoint is on disk.
func (s *Store) settled(file string, saved map[place]int64) {
	if file != recoveryPointFile && file != logStartFile {
		return
	}
	for _, l := range s.open() {
		l.mu.Lock()
		if file == recoveryPointFile {
			l.pointSaved = max(l.pointSaved, saved[l.at])
		} else {
			l.startSaved = max(l.startSaved, saved[l.at])
		}
		l.mu.Unlock()
	}
}

// unsaved tells a full disk, which heals, from a broken one.
func (s *Store) unsaved(err error) error {
	if err = worldly("write a checkpoint", err); errors.Is(err, ErrDiskFull) {
		return err
	}
	return s.fail(err)
}

// checkpoints gathers the offsets of all logs, open or not. stale are the places
// that they no longer speak of.
func (s *Store) checkpoints() (c checkpoints, stale []place) {
	s.mu.Lock()
	c = checkpoints{maps.Clone(s.points.recovery), maps.Clone(s.points.start), maps.Clone(s.points.high), maps.Clone(s.points.cleaned)}
	stale = slices.Collect(maps.Keys(s.stale))
	s.mu.Unlock()
	for _, l := range append(s.open(), s.openFuture()...) {
		l.mu.Lock()
		if l.onDisk {
			o := l.marks.load()
			c.recovery[l.at], c.high[l.at] = l.recoveryPointLocked(), o.High
			// Kafka leaves out starts that are the first segment's base. But the names of deleted
			// segments may come back after a power cut.
			if o.Start > 0 {
				c.start[l.at] = o.Start
			}
			if l.cleaned > 0 {
				c.cleaned[l.at] = l.cleaned
			}
		}
		l.mu.Unlock()
	}
	return c, stale
}

// recoveryPointLocked is the offset below which a start after a crash need not
// look. It never reaches the end of a segment whose files are not complete: a start
// reads the segment that holds it whole.
func (l *Log) recoveryPointLocked() int64 {
	point := l.durable
	for _, g := range *l.segments.Load() {
		if !g.finished {
			point = min(point, max(g.end-1, g.base))
			break
		}
	}
	if l.epochsSafe != l.epochs.Load() || l.damageSafe != l.damage.Load() || len(l.snapshots) > 0 {
		point = min(point, l.recovery)
	}
	l.recovery = max(l.recovery, point)
	return l.recovery
}

// forget removes what the checkpoints say about a place from an earlier life of
// the name: a new directory must not be held against it.
func (s *Store) forget(p place) error {
	s.mu.Lock()
	_, stale := s.stale[p]
	stale = s.dropPointsLocked(p) || stale
	s.mu.Unlock()
	if !stale {
		return nil
	}
	return s.saveAll()
}

func (s *Store) dropPointsLocked(p place) (had bool) {
	for _, c := range s.points.each() {
		if _, ok := (*c.offsets)[p]; ok {
			had = true
			delete(*c.offsets, p)
		}
	}
	return had
}

// Close finishes all logs and leaves the directory clean. Logs take nothing more from its begin on.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	all := append(s.open(), s.openFuture()...)
	for _, l := range all {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
	}
	close(s.janitor.stop)
	close(s.cleaner.stop)
	s.keeper.Wait()
	close(s.flusher.stop) // it answers all who wait before it ends
	s.wg.Wait()
	s.spare.drop() // what is left to write may need it
	err := s.finishAll(all)
	for _, l := range all {
		for _, g := range *l.segments.Load() {
			g.close()
		}
	}
	unlocked := s.lock.Close()
	if s.Err() != nil {
		unlocked = nil // of a directory that is out of service nothing more is expected
	}
	return errors.Join(err, unlocked)
}

// allOpened tells whether all logs in the directory were opened, where a start left something to
// be recovered (LogManager.loadLogsCompletedFlags).
func (s *Store) allOpened() (bool, error) {
	if s.clean && !s.suspect && !s.unloaded.Load() {
		return true, nil
	}
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return false, worldly("read the data directory", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		p, ok := placeOf(e.Name())
		f, isFuture := futureOf(e.Name())
		if e.IsDir() && (ok && s.logs[p] == nil || isFuture && s.future[f] == nil) {
			return false, nil
		}
	}
	return true, nil
}

// finishAll makes everything durable and then says so. A directory that is out of service gets no marker.
func (s *Store) finishAll(all []*Log) error {
	if s.Err() != nil {
		return nil // whoever watches Failed knows
	}
	if err := s.flush(all); err != nil {
		return err
	}
	errs := make([]error, len(all))
	if len(all) > 0 {
		_ = s.sideBySide(len(all), func(i int) error {
			errs[i] = all[i].finishAtClose()
			return nil
		})
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the data directory needs recovery at the next start: %w", err)
	}
	if err := s.saveAll(); err != nil {
		return err
	}
	whole, err := s.allOpened()
	if err != nil {
		return err
	}
	if !whole { // what the last crash, or a failed sync, left in the others is still to be looked at
		s.slog.Warn("not all logs of the data directory were opened; the next start recovers it", "dir", s.dir)
		return nil
	}
	if s.suspect { // everything was written again, and synced
		if err := s.fs.Remove(filepath.Join(s.dir, syncFailedFile)); err != nil {
			return fmt.Errorf("remove %s: %w", syncFailedFile, err)
		}
	}
	b, err := json.Marshal(cleanShutdown{BrokerEpoch: s.brokerEpoch.Load()})
	if err != nil {
		return err
	}
	return replaceDurably(s.fs, filepath.Join(s.dir, cleanShutdownFile), b)
}
