package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// open makes an office with a broker on a disk, which may be one that fails.
func openOffice(t *testing.T, fs vfs.FS, seed uint64) (*office, error) {
	o := &office{harness: &harness{t: t, fs: fs, set: officeSettings()}, rng: rand.New(rand.NewPCG(seed, 3))}
	o.lg = slog.New(slog.NewTextHandler(&o.said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	o.ids.Store(seed << 32) // ids of one start are not those of another
	return o, o.tryStart()
}

// close stops the broker. Where the disk fails that may fail too, but it ends.
func (o *office) close() error {
	if o.conn != nil {
		_ = o.conn.nc.Close()
		o.conn = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return o.b.Close(ctx)
}

// moment is a disk at one change, with what had been asked and answered by then.
type moment struct {
	op    vfs.Op
	disk  *vfs.Crash
	deeds []deed
}

// After a crash at any change of the disk, a broker comes up with all that it had
// acknowledged: topics with their ids and settings, records, committed offsets; what was
// deleted is gone, no producer id is given twice, and the next operations work.
func TestCrashOfABroker(t *testing.T) {
	lives, steps, every := uint64(4), 40, 4
	if testing.Short() {
		lives, steps, every = 1, 25, 31
	}
	var mu sync.Mutex
	points, kinds := 0, map[string]int{}
	t.Run("life", func(t *testing.T) {
		for seed := range lives {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				moments := recordBroker(t, seed, steps, every)
				seen, print := map[uint64]bool{}, maphash.MakeSeed()
				for _, m := range moments {
					for _, mode := range vfs.Modes() {
						disk := m.disk.Crash(mode, seed)
						if key := fingerprint(print, disk, m.deeds); seen[key] {
							continue
						} else {
							seen[key] = true
						}
						synctest.Test(t, func(t *testing.T) {
							if err := reopen(t, disk, m.deeds); err != nil {
								t.Errorf("seed %d: crash %s at %v by %v: %v\n%s", seed, mode, m.op, m.op.Site, err, tell(m.deeds))
							}
						})
						mu.Lock()
						points++
						kinds[m.op.Kind.String()]++
						mu.Unlock()
					}
				}
			})
		}
	})
	t.Logf("%d crash points at %v", points, kinds)
}

// recordBroker takes a moment at some changes of the disk under a broker.
func recordBroker(t *testing.T, seed uint64, steps, every int) (moments []moment) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		var o *office
		var mu sync.Mutex
		watch := func() {
			disk.Trace(vfs.NewSites(nil))
			disk.OnOp(func(op vfs.Op) {
				mu.Lock()
				defer mu.Unlock()
				if op.Call%every != int(seed)%every {
					return
				}
				m := moment{op: op}
				if o != nil {
					m.deeds = o.book()
				}
				m.disk = disk.Moment()
				// What was acknowledged before must be there, and what was asked until now may be.
				if o != nil {
					for _, d := range o.book()[len(m.deeds):] {
						d.acked = false
						m.deeds = append(m.deeds, d)
					}
				}
				moments = append(moments, m)
			})
		}
		watch()
		first, err := openOffice(t, disk, seed)
		if err != nil {
			t.Fatal(err)
		}
		o = first
		for i := range steps {
			if err := o.step(); err != nil {
				t.Fatalf("seed %d, step %d: %v\n%s", seed, i, err, tell(o.book()))
			}
			if i == steps/2 { // a clean stop
				if err := o.close(); err != nil {
					t.Fatal(err)
				}
				if err := o.tryStart(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := o.close(); err != nil {
			t.Error(err)
		}
	})
	return moments
}

// reopen starts a broker on a disk and holds it against a book.
func reopen(t *testing.T, disk *vfs.Crash, deeds []deed) error {
	o, err := openOffice(t, disk, 1<<20)
	if err != nil {
		return fmt.Errorf("the broker does not start: %w", err)
	}
	return errors.Join(o.inspect(deeds), o.close())
}

func fingerprint(seed maphash.Seed, disk *vfs.Crash, deeds []deed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], disk.Fingerprint(seed))
	_, _ = h.Write(b[:])
	_, _ = fmt.Fprint(&h, len(deeds))
	if n := len(deeds); n > 0 {
		_, _ = fmt.Fprint(&h, deeds[n-1].acked)
	}
	return h.Sum64()
}

// tell is a book as text.
func tell(deeds []deed) string {
	s := ""
	for _, d := range deeds {
		s += fmt.Sprintf("  %s topic=%s group=%s id=%x number=%d offset=%d value=%q acked=%t\n", d.what, d.topic, d.group, d.id, d.number, d.offset, d.value, d.acked)
	}
	return s
}

// An error at any call of the disk wedges no request: each is answered or its connection
// closed. After a power cut and a start on a disk that works, all that was acknowledged is there.
func TestErrorsUnderABroker(t *testing.T) {
	lives, steps, every := uint64(2), 25, 3
	if testing.Short() {
		lives, steps, every = 1, 15, 67
	}
	faults := []vfs.Rule{{Err: syscall.EIO}, {Err: syscall.ENOSPC}, {Err: syscall.EIO, Times: -1}, {Err: syscall.ENOSPC, Times: 20}}
	var mu sync.Mutex
	total, kinds := 0, map[string]int{}
	t.Run("life", func(t *testing.T) {
		for seed := range lives {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				calls := failingBroker(t, seed, steps, vfs.Rule{Path: "no such file"})
				for n := 1; n <= len(calls); n += every {
					rule := faults[(n/every)%len(faults)]
					rule.Nth = n
					made := failingBroker(t, seed, steps, rule)
					if n > len(made) {
						continue
					}
					mu.Lock()
					total++
					kinds[made[n-1].Kind.String()]++
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d errors at %v", total, kinds)
}

// failingBroker lives through a fault and then looks what is left after a power cut. A
// broker whose directory is out of service is started again, as an operator would.
func failingBroker(t *testing.T, seed uint64, steps int, fault vfs.Rule) (calls []vfs.Op) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		f := vfs.NewFault(disk, fault)
		f.Trace(vfs.NewSites(nil))
		where := func() string {
			made := f.Calls()
			if fault.Nth > 0 && fault.Nth <= len(made) {
				return fmt.Sprintf("seed %d, %v at %v by %v", seed, fault.Err, made[fault.Nth-1], made[fault.Nth-1].Site)
			}
			return "no fault"
		}
		o, err := openOffice(t, f, seed)
		for i := 0; i < steps && err == nil; i++ {
			if err := o.step(); errors.Is(err, errWedged) {
				t.Errorf("%s: %v\n%s", where(), err, tell(o.book()))
			}
			if o.b.Err() != nil {
				_ = o.close()
				err = o.tryStart()
			}
		}
		if err == nil {
			_ = o.close()
		}
		calls = f.Calls()
		if strings.Contains(o.said.String(), "restart the machine before this data directory is used again") {
			return // a sync failed, and so did the note of it: the operator was told, and a start cannot know
		}
		if err := reopen(t, disk.Crash(vfs.LoseUnsynced, 0), o.book()); err != nil {
			t.Errorf("%s, and a power cut: %v\n%s", where(), err, tell(o.book()))
		}
	})
	return calls
}
