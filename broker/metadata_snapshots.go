package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

const (
	// snapshotCleanInterval is how often old snapshots are looked for (KafkaRaftClient).
	snapshotCleanInterval = time.Minute
	// snapshotCleanSoon is the wait after one was deleted: the log's segments below it
	// go meanwhile, and count no more.
	snapshotCleanSoon = time.Second
	// snapshotRetry is the wait after a snapshot could not be written.
	snapshotRetry = time.Minute
)

// snapshotSettings say when snapshots are made and how long they are kept.
type snapshotSettings struct {
	bytes           int64         // metadata.log.max.record.bytes.between.snapshots
	interval        time.Duration // metadata.log.max.snapshot.interval.ms, 0: never
	retentionBytes  int64         // metadata.max.retention.bytes, negative: unlimited
	retentionMillis int64         // metadata.max.retention.ms, negative: for ever
}

func newSnapshotSettings(c *config.Config) snapshotSettings {
	return snapshotSettings{
		bytes:           c.Int("metadata.log.max.record.bytes.between.snapshots"),
		interval:        millis(c.Int("metadata.log.max.snapshot.interval.ms")),
		retentionBytes:  c.Int("metadata.max.retention.bytes"),
		retentionMillis: c.Int("metadata.max.retention.ms"),
	}
}

// snapshots makes and deletes the snapshots of the metadata log, in a goroutine of
// the broker (run), from images that do not change: the metadata shard waits for
// nothing. The log below a snapshot is deleted once a later snapshot is durable
// (KIP-630; Kafka's SnapshotGenerator and KafkaMetadataLog).
type snapshots struct {
	fs   vfs.FS
	dir  string
	log  *log.Log
	slog *slog.Logger
	o    snapshotSettings

	latest  atomic.Pointer[snapshotSource]
	overdue atomic.Bool // the interval has passed: any new record is reason enough
	wake    chan struct{}

	// Only the start and then run's goroutine use these.
	last time.Time // when the newest was made, or this process began
	off  bool      // a sync failed: nothing is made or deleted any more

	mu        sync.Mutex
	kept      []snapshotInfo // oldest first; only run's goroutine changes it after the start
	bytes     int64          // of the log that were read or written behind the snapshot of the start
	covered   int64          // of bytes, what the newest snapshot stands for
	timestamp int64          // of the newest record, milliseconds
}

// snapshotSource is what the next snapshot would be made of.
type snapshotSource struct {
	id        snapshotID
	image     *metadata.Image
	timestamp int64
	bytes     int64 // of snapshots.bytes, what the image contains
}

// snapshotInfo is one snapshot on disk.
type snapshotInfo struct {
	id        snapshotID
	bytes     int64
	timestamp int64 // of the last record that it stands for, milliseconds
	durable   bool  // this process has synced it
}

func newSnapshots(fsys vfs.FS, dir string, l *log.Log, lg *slog.Logger, o snapshotSettings) *snapshots {
	return &snapshots{fs: fsys, dir: dir, log: l, slog: lg, o: o, wake: make(chan struct{}, 1), last: time.Now()}
}

func (s *snapshots) path(id snapshotID) string {
	return filepath.Join(s.dir, id.String()+snapshotSuffix)
}

// find lists the snapshots and removes what a crash left over: those that are not
// complete and those that the log does not need, because it begins behind them.
// It is an error if none is left for a log without its beginning, and if the newest
// stands for more than the log holds: records that were acknowledged are missing.
func (s *snapshots) find(at log.Offsets) error {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for snapshots: %w", err)
	}
	var leftover []string
	for _, e := range entries {
		id, ok := parseSnapshotName(e.Name(), snapshotSuffix)
		if ok && id.offset >= at.Start {
			s.kept = append(s.kept, snapshotInfo{id: id})
		} else if ok || strings.HasSuffix(e.Name(), partSuffix) || strings.HasSuffix(e.Name(), deletedSuffix) {
			leftover = append(leftover, e.Name())
		}
	}
	slices.SortFunc(s.kept, func(a, b snapshotInfo) int { return compareSnapshots(a.id, b.id) })
	switch n := len(s.kept); {
	case n == 0 && at.Start > 0:
		return fmt.Errorf("%s has no snapshot for a log that begins at offset %d; restore it, or serve another copy of the directory", s.dir, at.Start)
	case n > 0 && s.kept[n-1].id.offset > at.End:
		return fmt.Errorf("the metadata log ends at offset %d, but snapshot %s stands for all of it below %d: the log lost records; restore the log, or move the snapshot away to go on without them",
			at.End, s.path(s.kept[n-1].id), s.kept[n-1].id.offset)
	}
	for _, name := range leftover {
		if err := s.fs.Remove(filepath.Join(s.dir, name)); err != nil {
			s.slog.Warn("a metadata snapshot that is not needed stays", "name", name, "err", err)
		}
	}
	return nil
}

// choose takes the newest snapshot that can be read. Where the log still holds what
// a damaged one stands for, an older one or the whole log does as well; the damaged
// one is then set aside, since Kafka would not start on it. ok is false where the log
// is to be read from its start.
func (s *snapshots) choose(at log.Offsets) (id snapshotID, ok bool, err error) {
	var damaged []snapshotID
	for len(s.kept) > 0 {
		newest := &s.kept[len(s.kept)-1]
		e := walkSnapshot(s.fs, s.path(newest.id), newest.look)
		if e == nil {
			break
		}
		if !errors.Is(e, errNotWhole) {
			return id, false, e
		}
		err = errors.Join(err, e)
		damaged = append(damaged, newest.id)
		s.kept = s.kept[:len(s.kept)-1]
	}
	if len(s.kept) == 0 && at.Start > 0 {
		return id, false, err
	}
	for _, d := range damaged {
		s.slog.Error("a metadata snapshot is damaged and set aside; the log holds what it stood for", "snapshot", s.path(d), "err", err)
		if err := s.fs.Rename(s.path(d), filepath.Join(s.dir, d.String()+damagedSuffix)); err != nil {
			return id, false, fmt.Errorf("set a damaged snapshot aside: %w", err)
		}
	}
	if len(s.kept) == 0 {
		return id, false, nil
	}
	for i := range s.kept[:len(s.kept)-1] {
		if err := s.peek(&s.kept[i]); err != nil {
			s.slog.Warn("an old metadata snapshot cannot be read; a newer one is in use", "err", err)
		}
	}
	return s.kept[len(s.kept)-1].id, true, nil
}

// errEnough ends a walk early.
var errEnough = errors.New("enough was read")

// peek notes age and size of a snapshot that is not read any further: one whose head
// is damaged counts as old.
func (s *snapshots) peek(i *snapshotInfo) error {
	info, err := s.fs.Stat(s.path(i.id))
	if err != nil {
		return err
	}
	err = walkSnapshot(s.fs, s.path(i.id), func(h *batch.Header, b []byte) error {
		return errors.Join(i.look(h, b), errEnough)
	})
	i.bytes = info.Size()
	if errors.Is(err, errNotWhole) || !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

// look notes what a snapshot's batches say about it.
func (i *snapshotInfo) look(h *batch.Header, b []byte) error {
	if i.bytes += int64(len(b)); !h.Control() {
		return nil
	}
	return controlRecords(h, b, func(t metadata.ControlType, value []byte) error {
		if t != metadata.ControlSnapshotHeader {
			return nil
		}
		var m metadata.SnapshotHeader
		if err := m.Decode(value); err != nil {
			return fmt.Errorf("%w: %w", errNotWhole, err)
		}
		i.timestamp = m.LastContainedLogTimestamp
		return nil
	})
}

// load applies the newest snapshot and tells where the log goes on.
func (s *snapshots) load(at log.Offsets, apply func(coordinator.Record) error) (from int64, err error) {
	s.mu.Lock()
	s.bytes, s.covered = 0, 0
	n := len(s.kept)
	if n == 0 {
		s.mu.Unlock()
		return at.Start, nil
	}
	id := s.kept[n-1].id
	s.mu.Unlock()
	err = walkSnapshot(s.fs, s.path(id), func(h *batch.Header, b []byte) error { return loadBatch(h, b, 0, apply) })
	return id.offset, err
}

// count adds to what a next snapshot would save the start from reading.
func (s *snapshots) count(bytes int, timestamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(bytes)
	s.timestamp = timestamp
}

// offer tells of a new image, at the end of the log. It is called by the metadata
// shard's goroutine, after the image is durable.
func (s *snapshots) offer(image *metadata.Image) {
	s.mu.Lock()
	src := &snapshotSource{id: snapshotID{image.Offset + 1, image.LeaderEpoch}, image: image, timestamp: s.timestamp, bytes: s.bytes}
	enough := src.bytes-s.covered >= s.o.bytes
	s.mu.Unlock()
	s.latest.Store(src)
	if enough || s.overdue.Load() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// run makes and deletes snapshots until ctx ends.
func (s *snapshots) run(ctx context.Context) {
	cleaning := time.Now()
	retry := time.Time{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		now := time.Now()
		if src := s.due(now); src != nil && !now.Before(retry) {
			if err := s.take(ctx, src, now); err != nil {
				retry = now.Add(snapshotRetry)
			}
			cleaning = now
		}
		if !now.Before(cleaning) {
			cleaning = now.Add(snapshotCleanInterval)
			if s.clean(now) {
				cleaning = now.Add(snapshotCleanSoon)
			}
		}
		if s.off {
			return
		}
		wait := cleaning.Sub(now)
		if s.o.interval > 0 {
			left := s.last.Add(s.o.interval).Sub(now)
			if left > 0 {
				wait = min(wait, left)
			}
			s.overdue.Store(left <= 0)
		}
		timer.Reset(wait)
	}
}

// due is what a snapshot is to be made of now, nil if none is.
func (s *snapshots) due(now time.Time) *snapshotSource {
	src := s.latest.Load()
	if src == nil || len(s.kept) > 0 && src.id.offset <= s.kept[len(s.kept)-1].id.offset {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if src.bytes-s.covered >= s.o.bytes || s.o.interval > 0 && now.Sub(s.last) >= s.o.interval {
		return src
	}
	return nil
}

// take makes a snapshot.
func (s *snapshots) take(ctx context.Context, src *snapshotSource, now time.Time) error {
	c := &snapshotContent{
		epoch: src.id.epoch, lastTimestamp: src.timestamp, now: now.UnixMilli(),
		control: src.image.Quorum.ControlRecords(), records: src.image.SnapshotRecords(),
	}
	name := s.path(src.id)
	size, err := writeSnapshot(s.fs, filepath.Join(s.dir, src.id.String()+partSuffix), name, c, ctx.Err)
	if err != nil {
		s.failed(ctx, err)
		return err
	}
	s.mu.Lock()
	s.kept = append(s.kept, snapshotInfo{id: src.id, bytes: size, timestamp: src.timestamp, durable: true})
	s.covered = min(src.bytes, s.bytes) // the log may have been read again meanwhile
	s.mu.Unlock()
	s.last = now
	s.slog.Info("metadata snapshot", "snapshot", name, "bytes", size, "took", time.Since(now))
	return nil
}

// failed reports an error and, if it was a sync's, ends the making of snapshots until
// the next start: the log stays whole and grows.
func (s *snapshots) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, errUnsynced) {
		s.off = true
		s.slog.Error("no metadata snapshot is made or deleted until the next start: the disk could not make one durable", "err", err)
		return
	}
	s.slog.Warn("a metadata snapshot could not be made; it is tried again", "err", err)
}

// clean deletes snapshots that are too old or too many, and the log below those that
// stay. It tells whether it is to be called again soon.
func (s *snapshots) clean(now time.Time) (again bool) {
	for !s.off && s.expired(now) {
		if err := s.dropOldest(); err != nil {
			s.failed(context.Background(), err)
			return false
		}
		again = true
		if !s.tooOld(now) {
			return true // the sizes are another matter once the segments are gone
		}
	}
	return again
}

// expired says whether the oldest snapshot is to go. The newest always stays.
func (s *snapshots) expired(now time.Time) bool {
	if len(s.kept) < 2 {
		return false
	}
	if s.tooOld(now) {
		return true
	}
	total := s.log.Size()
	for _, k := range s.kept {
		total += k.bytes
	}
	return s.o.retentionBytes >= 0 && total > s.o.retentionBytes
}

func (s *snapshots) tooOld(now time.Time) bool {
	return len(s.kept) > 1 && s.o.retentionMillis >= 0 && now.UnixMilli()-s.kept[0].timestamp > s.o.retentionMillis
}

// dropOldest makes the log begin where the second snapshot does. The ones that stay
// are durable before that, and the new start is before the oldest goes.
func (s *snapshots) dropOldest() error {
	for i := range s.kept[1:] {
		if err := s.sync(&s.kept[1+i]); err != nil {
			return err
		}
	}
	if next := s.kept[1].id.offset; next > s.log.Offsets().Start {
		if _, err := s.log.DeleteBefore(next); err != nil {
			return fmt.Errorf("delete the metadata log below offset %d: %w", next, err)
		}
	}
	oldest := s.kept[0]
	s.mu.Lock()
	s.kept = s.kept[1:]
	s.mu.Unlock()
	s.slog.Info("metadata snapshot deleted", "snapshot", s.path(oldest.id), "log start", s.log.Offsets().Start)
	if err := ignoreMissing(s.fs.Remove(s.path(oldest.id))); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", s.path(oldest.id), err) // the next start tries again
	}
	return nil
}

// sync makes durable what an earlier process wrote: it may not have come to that.
func (s *snapshots) sync(i *snapshotInfo) error {
	if i.durable {
		return nil
	}
	f, err := s.fs.OpenFile(s.path(i.id), os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("sync snapshot: %w", err)
	}
	if err = errors.Join(f.Sync(), f.Close()); err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("sync snapshot %s: %w: %w", s.path(i.id), errUnsynced, err)
	}
	i.durable = true
	return nil
}
