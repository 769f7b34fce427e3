package broker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

// metaRig is a metadata log with its shard and snapshots, without the broker around it.
type metaRig struct {
	b     *Broker
	o     Options
	shard *metadata.Shard
	j     *journal
	s     *snapshots
	book  *metaBook
}

// metaBook is every state that the shard was in, in order, and how many of them were
// confirmed as durable.
type metaBook struct {
	mu     sync.Mutex
	states [][]byte
	acked  int
}

// stateOf is all that an image says, as bytes.
func stateOf(img *metadata.Image) []byte {
	var b []byte
	if img.Feature(metadata.FeatureMetadataVersion) == 0 {
		return b
	}
	for r := range img.SnapshotRecords() {
		b = append(b, r...)
	}
	return b
}

func (k *metaBook) wrote(img *metadata.Image) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.states = append(k.states, stateOf(img))
	return len(k.states) - 1
}

func (k *metaBook) confirmed(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.acked = max(k.acked, n)
}

// promise is how many states were confirmed and how many were written.
func (k *metaBook) promise() (acked, written int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.acked, len(k.states)
}

// check is whether a state is one of those that a crash may leave.
func (k *metaBook) check(got []byte, acked, written int) error {
	for _, s := range k.states[acked:written] {
		if bytes.Equal(s, got) {
			return nil
		}
	}
	return fmt.Errorf("loaded a state of %d bytes that is none of %d to %d", len(got), acked, written-1)
}

func metaConfig(t testing.TB) *config.Config {
	source, err := config.ParseOverrides("--set", []string{"log.dirs=data", "internal.metadata.log.segment.bytes=1500", "metadata.max.retention.bytes=0", "metadata.log.max.record.bytes.between.snapshots=1"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(source)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// openMeta opens the directory as a broker's start does, up to the loaded shard.
func openMeta(c *config.Config, fsys vfs.FS) (*metaRig, error) {
	var n byte
	var mu sync.Mutex
	o := Options{Config: c, FS: fsys, Dir: "data", Random: func() int32 { return 0 }, NewID: func() (id [16]byte) {
		mu.Lock()
		defer mu.Unlock()
		n++
		id[0], id[15] = 0x10, n
		return id
	}}
	b := &Broker{memory: newMemoryGuard(config.Memory{}), nodeID: 1, durableAcks: true, static: c, log: slog.New(slog.DiscardHandler), newID: o.NewID, fs: fsys, logDirs: []string{o.Dir}}
	dirs, err := log.OpenDirs(fsys, log.DirsOptions{Options: b.storeOptions(o), Names: b.logDirs, Metadata: o.Dir})
	if err != nil {
		return nil, err
	}
	b.dirs = dirs
	r := &metaRig{b: b, o: o}
	if err := r.load(); err != nil {
		return nil, errors.Join(err, dirs.Close())
	}
	return r, nil
}

func (r *metaRig) load() error {
	b := r.b
	if err := b.identify(r.o); err != nil {
		return err
	}
	if err := prepareMetadataDir(r.o); err != nil {
		return err
	}
	l, err := b.dirs.OpenMetadata(metadata.ClusterMetadataTopic, metadata.ClusterMetadataTopicID, metadataLogConfig(r.o.Config))
	if err != nil {
		return err
	}
	b.metaLog = l
	r.s = newSnapshots(r.o.FS, metadataDir(r.o), l, b.log, newSnapshotSettings(r.o.Config))
	epoch, err := b.lead(r.o, l, r.s)
	if err != nil {
		return err
	}
	r.shard = metadata.NewShard(b.shardOptions())
	r.j = &journal{open: func() (*log.Log, error) { return l, nil }, epoch: epoch, origin: log.Raft, durable: true, snapshots: r.s}
	err = r.j.Load(func(rec coordinator.Record) error {
		r.shard.Apply(rec)
		return nil
	})
	return errors.Join(err, r.shard.Err())
}

// do is what the shell does with one event.
func (r *metaRig) do(body any) error {
	res := r.shard.Handle(time.Now(), coordinator.Event{Token: "t", Body: body})
	if u, ok := res.Replies[0].Body.(metadata.Unreadable); ok {
		return u
	}
	return r.append(res.Records)
}

func (r *metaRig) append(rs []coordinator.Record) error {
	if len(rs) == 0 {
		return nil
	}
	for _, rec := range rs {
		r.shard.Apply(rec)
	}
	n := 0
	if r.book != nil {
		n = r.book.wrote(r.shard.Image())
	}
	receipt, err := r.j.Append(time.Now(), rs)
	if err == nil && receipt != nil {
		<-receipt.Done()
		err = receipt.Err()
	}
	if err != nil {
		return err
	}
	if r.book != nil {
		r.book.confirmed(n)
	}
	end := r.b.metaLog.Offsets()
	r.s.offer(r.shard.Image().At(end.End-1, end.LeaderEpoch))
	return nil
}

// step is one random change.
func (r *metaRig) step(rng *rand.Rand, i int) error {
	name := fmt.Sprintf("t%d", rng.IntN(6))
	switch rng.IntN(4) {
	case 0:
		return r.do(metadata.DeleteTopics{Topics: []metadata.TopicRef{{Name: &name}}})
	case 1:
		acl := &metadata.AccessControlEntryRecord{ID: [16]byte{1, byte(rng.IntN(9))}, Principal: name, Host: fmt.Sprint(i)}
		return r.append([]coordinator.Record{{Value: metadata.AppendRecord(nil, acl, 0)}})
	}
	return r.do(metadata.CreateTopics{Topics: []metadata.NewTopic{{Name: name, Partitions: int32(1 + rng.IntN(3)), ReplicationFactor: 1}}})
}

// begin is the start of a broker.
func (r *metaRig) begin() error {
	if err := r.do(bootstrapRecords(r.o)); err != nil {
		return err
	}
	return r.do(metadata.RegisterBroker{Epoch: r.b.metaLog.Offsets().End, Incarnation: r.b.newID(), Directories: [][16]byte{r.b.dirID}, Clean: r.b.dirs.Clean()})
}

// snapshot is what run does when it is time, without waiting for the janitor.
func (r *metaRig) snapshot(t testing.TB) error {
	if src := r.s.due(time.Now()); src != nil {
		if err := r.s.take(t.Context(), src, time.Now()); err != nil {
			return err
		}
	}
	for r.s.clean(time.Now()) {
	}
	return nil
}

// metaLife is two starts of a broker whose metadata changes, with snapshots on the way.
func metaLife(t testing.TB, c *config.Config, fsys vfs.FS, book *metaBook, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 2 {
		r, err := openMeta(c, fsys)
		if err != nil {
			return err
		}
		r.book = book
		err = r.begin()
		for i := 0; i < 30 && err == nil; i++ {
			if err = r.step(rng, i); err == nil && i%7 == 6 {
				if err = r.snapshot(t); err == nil {
					time.Sleep(2 * time.Minute) // the janitor deletes what is below the start
				}
			}
		}
		if err = errors.Join(err, r.b.dirs.Close()); err != nil {
			return err
		}
	}
	return nil
}

// metaWreck is a disk after a crash and what had been promised.
type metaWreck struct {
	op             vfs.Op
	mode           vfs.Mode
	fs             *vfs.Crash
	acked, written int
}

// After a crash at any change of the disk while metadata is written, snapshots are
// made and the log below them is deleted, the metadata is all there and no more than
// was written; it goes on from there, with snapshots, and a crash in the middle of
// that start loses nothing either.
func TestMetadataCrashAtEveryChange(t *testing.T) {
	every := 1
	if testing.Short() {
		every = 7
	}
	c := metaConfig(t)
	points, cut := 0, false
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewCrash()
			book := &metaBook{states: [][]byte{nil}}
			var mu sync.Mutex
			var wrecks []metaWreck
			disk.OnOp(func(op vfs.Op) {
				if op.Call%every != 0 {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, mode := range vfs.Modes() {
					acked, _ := book.promise()
					after := disk.Crash(mode, seed)
					_, written := book.promise()
					wrecks = append(wrecks, metaWreck{op, mode, after, acked, written})
				}
			})
			if err := metaLife(t, c, disk, book, seed); err != nil {
				t.Fatal(err)
			}
			disk.OnOp(nil)
			for i, w := range wrecks {
				if err := w.check(t, c, book, i%201 == int(seed)); err != nil {
					t.Fatalf("seed %d: crash %s at %v: %v", seed, w.mode, w.op, err)
				}
			}
			points += len(wrecks)
			r, err := openMeta(c, disk)
			if err != nil {
				t.Fatal(err)
			}
			o := r.b.metaLog.Offsets()
			cut = cut || o.Start > 0 && r.b.metaLog.Segments() < 5
			if err := r.b.dirs.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Logf("%d crash points", points)
	if !cut {
		t.Error("the log was never cut: the test does not test what it says")
	}
}

func (w *metaWreck) check(t *testing.T, c *config.Config, book *metaBook, again bool) error {
	if again {
		for n := 1; ; n += 3 {
			disk := w.fs.Crash(vfs.Kill, 0)
			disk.StopAfter(n)
			first := &metaBook{}
			if w.recover(t, c, disk, book, first) == nil && disk.Ops() <= n {
				break // it came to its end
			}
			both := &metaBook{states: append(book.states[:w.written:w.written], first.states...)}
			after := *w
			after.written = len(both.states)
			for _, mode := range []vfs.Mode{vfs.LoseUnsynced, vfs.Torn} {
				if err := after.recover(t, c, disk.Crash(mode, uint64(n)), both, nil); err != nil {
					return fmt.Errorf("after a second crash, %s, %d changes into the start: %w", mode, n, err)
				}
			}
		}
	}
	return w.recover(t, c, w.fs, book, nil)
}

// recover starts on the wreck, checks what is loaded, goes on and loads once more. The
// states that it makes are written down in made.
func (w *metaWreck) recover(t *testing.T, c *config.Config, disk *vfs.Crash, book, made *metaBook) error {
	var want []byte
	for round := range 2 {
		r, err := openMeta(c, disk)
		if err != nil {
			return err
		}
		got := stateOf(r.shard.Image())
		r.book = made
		if round == 0 {
			err = book.check(got, w.acked, w.written)
		} else if !bytes.Equal(got, want) {
			err = errors.New("what was written after the crash is gone")
		}
		if err == nil && round == 0 {
			err = r.begin()
			for i := 0; i < 3 && err == nil; i++ {
				if err = r.step(rand.New(rand.NewPCG(1, uint64(i))), 100+i); err == nil {
					err = r.snapshot(t)
				}
			}
			want = stateOf(r.shard.Image())
		}
		if err = errors.Join(err, r.b.dirs.Close()); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// An error at any call of the disk, and then a power cut: what was confirmed is there.
func TestMetadataErrorAtEveryCall(t *testing.T) {
	c := metaConfig(t)
	var calls []vfs.Op
	synctest.Test(t, func(t *testing.T) {
		f := vfs.NewFault(vfs.NewCrash())
		if err := metaLife(t, c, f, &metaBook{states: [][]byte{nil}}, 1); err != nil {
			t.Fatal(err)
		}
		calls = f.Calls()
	})
	step := 3
	if testing.Short() {
		step = 41
	}
	for _, fault := range []vfs.Rule{{Err: syscall.EIO}, {Err: syscall.ENOSPC}, {Err: syscall.EIO, After: true}} {
		for n := 1; n <= len(calls); n += step {
			synctest.Test(t, func(t *testing.T) {
				rule := fault
				rule.Call = n
				disk := vfs.NewCrash()
				book := &metaBook{states: [][]byte{nil}}
				_ = metaLife(t, c, vfs.NewFault(disk, rule), book, 1)
				acked, written := book.promise()
				w := metaWreck{fs: disk.Crash(vfs.LoseUnsynced, 0), acked: acked, written: written}
				if err := w.check(t, c, book, false); err != nil {
					t.Fatalf("%v at %v, and then a power cut: %v", rule.Err, calls[n-1], err)
				}
			})
		}
	}
	t.Logf("%d calls with errors", 3*len(calls)/step)
}
