package vfs

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// play runs a script on /d: one operation per line.
//
//	write f 3 abc | trunc f 5 | sync f | failsync f | rename a b | rm f | mkdir e | syncdir . | syncfs
func play(t *testing.T, fsys FS, script string) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		w := strings.Fields(line)
		arg := func(i int) string { return path.Join("/d", w[i]) }
		number := func(i int) int64 {
			n, err := strconv.ParseInt(w[i], 10, 64)
			ok(t, err)
			return n
		}
		onFile := func(fn func(File) error) {
			f, err := fsys.OpenFile(arg(1), os.O_RDWR|os.O_CREATE, 0o600)
			ok(t, err)
			ok(t, fn(f))
			ok(t, f.Close())
		}
		switch w[0] {
		case "write":
			onFile(func(f File) error { _, err := f.WriteAt([]byte(w[3]), number(2)); return err })
		case "trunc":
			onFile(func(f File) error { return f.Truncate(number(2)) })
		case "sync":
			onFile(File.Sync)
		case "failsync":
			onFile(func(f File) error { f.(forgetful).dropPending(); return nil })
		case "rename":
			ok(t, fsys.Rename(arg(1), arg(2)))
		case "rm":
			ok(t, fsys.RemoveAll(arg(1)))
		case "mkdir":
			ok(t, fsys.MkdirAll(arg(1), 0o700))
		case "syncdir":
			ok(t, fsys.SyncDir(arg(1)))
		case "syncfs":
			ok(t, fsys.SyncFS("/d"))
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
}

// state lists /d with zero bytes shown as dots.
func state(t *testing.T, fsys FS) string {
	t.Helper()
	return strings.ReplaceAll(list(t, fsys, "/d"), "\x00", ".")
}

// newDisk has a durable empty directory /d.
func newDisk(t *testing.T) *Crash {
	t.Helper()
	c := NewCrash()
	ok(t, c.MkdirAll("/d", 0o700))
	ok(t, c.SyncDir("/"))
	return c
}

// What each mode leaves, and that a crash of what a kill left is no different.
func TestCrashLosesWhatItShould(t *testing.T) {
	tests := []struct {
		name   string
		script string
		want   map[Mode]string
	}{
		{"nothing synced", `
			write f 0 abc`,
			map[Mode]string{LoseUnsynced: "", KeepAll: "f=abc", LoseNames: "", LoseBytes: "f=", ZeroTail: "f=...", Kill: "f=abc"}},
		{"bytes synced, name not", `
			write f 0 abc
			sync f`,
			map[Mode]string{LoseUnsynced: "", KeepAll: "f=abc", LoseNames: "", LoseBytes: "f=abc", ZeroTail: "f=abc", Kill: "f=abc"}},
		{"name synced, bytes not", `
			write f 0 abc
			syncdir .`,
			map[Mode]string{LoseUnsynced: "f=", KeepAll: "f=abc", LoseNames: "f=abc", LoseBytes: "f=", ZeroTail: "f=...", Kill: "f=abc"}},
		{"both synced", `
			write f 0 abc
			sync f
			syncdir .`,
			map[Mode]string{LoseUnsynced: "f=abc", KeepAll: "f=abc", LoseNames: "f=abc", LoseBytes: "f=abc", ZeroTail: "f=abc", Kill: "f=abc"}},
		{"file system synced", `
			mkdir e
			write e/f 0 abc
			write g 0 x
			rename g h
			syncfs`,
			map[Mode]string{LoseUnsynced: "e/ e/f=abc h=x", LoseBytes: "e/ e/f=abc h=x", Kill: "e/ e/f=abc h=x"}},
		{"appended and overwritten since", `
			write f 0 abc
			syncfs
			write f 1 XYZ`,
			map[Mode]string{LoseUnsynced: "f=abc", KeepAll: "f=aXYZ", LoseNames: "f=aXYZ", LoseBytes: "f=abc", ZeroTail: "f=abc.", Kill: "f=aXYZ"}},
		{"truncated since", `
			write f 0 abcdef
			syncfs
			trunc f 2
			write f 4 Z`,
			map[Mode]string{LoseUnsynced: "f=abcdef", KeepAll: "f=ab..Z", LoseBytes: "f=abcdef", ZeroTail: "f=ab...", Kill: "f=ab..Z"}},
		{"replaced by rename without syncing the bytes", `
			write cp 0 old
			syncfs
			write tmp 0 new
			rename tmp cp`,
			map[Mode]string{LoseUnsynced: "cp=old", KeepAll: "cp=new", LoseNames: "cp=old", LoseBytes: "cp=", ZeroTail: "cp=...", Kill: "cp=new"}},
		{"replaced by rename as it should be", `
			write cp 0 old
			syncfs
			write tmp 0 new
			sync tmp
			rename tmp cp
			syncdir .`,
			map[Mode]string{LoseUnsynced: "cp=new", KeepAll: "cp=new", LoseNames: "cp=new", LoseBytes: "cp=new", ZeroTail: "cp=new", Kill: "cp=new"}},
		{"removed", `
			write f 0 abc
			syncfs
			rm f`,
			map[Mode]string{LoseUnsynced: "f=abc", KeepAll: "", LoseNames: "f=abc", LoseBytes: "", ZeroTail: "", Kill: ""}},
		{"new directory whose own name is not synced", `
			mkdir e
			write e/f 0 abc
			sync e/f
			syncdir e`,
			map[Mode]string{LoseUnsynced: "", KeepAll: "e/ e/f=abc", LoseNames: "", LoseBytes: "e/ e/f=abc", Kill: "e/ e/f=abc"}},
		{"moved to a directory that is synced, out of one that is not", `
			mkdir a
			mkdir b
			write a/f 0 abc
			syncfs
			rename a/f a/g
			rename a/g b/g
			write a/h 0 x
			syncdir b`,
			map[Mode]string{LoseUnsynced: "a/ b/ b/g=abc", LoseNames: "a/ b/ b/g=abc", Kill: "a/ a/h=x b/ b/g=abc"}},
		{"failed sync, then one that succeeds", `
			write f 0 abc
			syncfs
			write f 3 def
			failsync f
			write f 6 ghi
			sync f`,
			map[Mode]string{LoseUnsynced: "f=abc...ghi", KeepAll: "f=abc...ghi", LoseBytes: "f=abc...ghi", ZeroTail: "f=abc...ghi", Kill: "f=abcdefghi"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newDisk(t)
			play(t, c, tt.script)
			before := state(t, c)
			for mode, want := range tt.want {
				after := c.Crash(mode, 1)
				if got := state(t, after); got != want {
					t.Errorf("%v leaves %q, want %q", mode, got, want)
				}
				if mode == Kill {
					continue
				}
				if again := state(t, after.Crash(LoseUnsynced, 1)); again != want {
					t.Errorf("%v: a second power cut leaves %q, want %q", mode, again, want)
				}
			}
			for _, mode := range Modes() {
				cut := c.Crash(Kill, 1).Crash(mode, 7)
				if got, want := state(t, cut), state(t, c.Crash(mode, 7)); mode != Torn && got != want {
					t.Errorf("kill then %v leaves %q, want %q", mode, got, want)
				}
			}
			if got := state(t, c); got != before {
				t.Errorf("crashing changed the original to %q", got)
			}
		})
	}
}

// Torn leaves many different things, but only possible ones.
func TestTornNames(t *testing.T) {
	c := newDisk(t)
	play(t, c, `
		write a 0 a
		syncfs
		write b 0 b
		sync b
		rename b a
		mkdir e
		write e/f 0 f
		sync e/f
		rm e/f`)
	possible := map[string]bool{}
	for _, first := range []string{"a=a", "a=a b=b", "a=b"} {
		for _, second := range []string{"", " e/", " e/ e/f=f"} {
			possible[first+second] = true
		}
	}
	seen := map[string]bool{}
	for seed := range uint64(500) {
		got := state(t, c.Crash(Torn, seed))
		if !possible[got] {
			t.Fatalf("seed %d leaves %q", seed, got)
		}
		if again := state(t, c.Crash(Torn, seed)); again != got {
			t.Fatalf("seed %d leaves %q, then %q", seed, got, again)
		}
		seen[got] = true
	}
	if len(seen) != len(possible) {
		t.Errorf("500 seeds left only %d of %d possible states", len(seen), len(possible))
	}
}

// Three appends to a file with one durable sector: every sector is as it was after
// some append, sizes are old sizes, and holes, zero tails and torn appends happen.
func TestTornBytes(t *testing.T) {
	c := newDisk(t)
	letters := func(b byte, n int) string { return strings.Repeat(string(b), n) }
	play(t, c, "write f 0 "+letters('a', 512)+"\nsyncfs")
	versions := []string{letters('a', 512)}
	for i, n := range []int{700, 300, 2000} {
		next := versions[i] + letters(byte('b'+i), n)
		play(t, c, fmt.Sprintf("write f %d %s", len(versions[i]), next[len(versions[i]):]))
		versions = append(versions, next)
	}
	seen := map[string]int{}
	for seed := range uint64(2000) {
		got, err := get(c.Crash(Torn, seed), "/d/f")
		ok(t, err)
		if got[:512] != versions[0] {
			t.Fatalf("seed %d lost durable bytes", seed)
		}
		size := -1
		for i, v := range versions {
			if len(got) == len(v) {
				size = i
			}
		}
		if size < 0 {
			t.Fatalf("seed %d: size %d never was", seed, len(got))
		}
		lost := false
		for at := 512; at < len(got); at += sectorBytes {
			sector := got[at:min(at+sectorBytes, len(got))]
			whole, possible := false, strings.Trim(sector, "\x00") == ""
			for i, v := range versions {
				v += letters(0, 5000)
				if sector == v[at:at+len(sector)] {
					possible, whole = true, whole || i >= size
				}
			}
			if !possible {
				t.Fatalf("seed %d: sector at %d never was", seed, at)
			}
			if !whole {
				lost = true
			} else if lost {
				seen["hole"]++
			}
		}
		if lost {
			seen["torn"]++
		} else {
			seen["whole, size "+strconv.Itoa(size)]++
		}
	}
	for _, what := range []string{"hole", "torn", "whole, size 0", "whole, size 1", "whole, size 3"} {
		if seen[what] < 20 {
			t.Errorf("%s: only %d of 2000; have %v", what, seen[what], seen)
		}
	}
}

// Bytes written where a lost truncation would have cut are lost with it.
func TestTornTruncation(t *testing.T) {
	c := newDisk(t)
	play(t, c, `
		write f 0 abcdefgh
		syncfs
		trunc f 2
		write f 2 XY`)
	seen := map[string]int{}
	for seed := range uint64(500) {
		seen[state(t, c.Crash(Torn, seed))]++
	}
	for _, want := range []string{"f=abcdefgh", "f=ab", "f=abXY", "f=ab.."} {
		if seen[want] == 0 {
			t.Errorf("never %q", want)
		}
		delete(seen, want)
	}
	if len(seen) > 0 {
		t.Errorf("impossible: %v", seen)
	}
}

func TestKillKeepsPartOfTheWriteUnderWay(t *testing.T) {
	c := newDisk(t)
	play(t, c, "write f 0 "+strings.Repeat("a", 100))
	sizes := map[int]int{}
	c.OnOp(func(op Op) {
		if op.Kind != OpWrite {
			return
		}
		for seed := range uint64(200) {
			got, err := get(c.Crash(Kill, seed), "/d/f")
			ok(t, err)
			if want := strings.Repeat("a", 100) + strings.Repeat("b", 2000); !strings.HasPrefix(want, got) || len(got) < 100 || len(got) > 100 && len(got)%512 != 0 && len(got) != 2100 {
				t.Fatalf("seed %d leaves %d bytes", seed, len(got))
			}
			if seed == 0 && len(got) != 2100 {
				t.Fatalf("seed 0 leaves %d bytes", len(got))
			}
			sizes[len(got)]++
		}
	})
	play(t, c, "write f 100 "+strings.Repeat("b", 2000))
	for _, size := range []int{100, 512, 1024, 1536, 2048} {
		if sizes[size] == 0 {
			t.Errorf("never %d bytes: %v", size, sizes)
		}
	}
	c.OnOp(nil)
	for seed := range uint64(50) {
		if got, _ := get(c.Crash(Kill, seed), "/d/f"); len(got) != 2100 {
			t.Fatalf("a write that has returned was cut to %d bytes", len(got))
		}
	}
}

func TestOnOpSeesEveryChange(t *testing.T) {
	c := newDisk(t)
	var got []string
	c.OnOp(func(op Op) { got = append(got, strings.SplitN(op.String(), " ", 2)[1]) })
	play(t, c, `
		write f 0 abc
		trunc f 2
		sync f
		rename f g
		mkdir e/h
		syncdir .
		rm e
		syncfs`)
	_, err := get(c, "/d/g") // no change
	ok(t, err)
	want := []string{"open /d/f", "write /d/f at 0 len 3", "truncate /d/f to 2", "sync /d/f", "rename /d/f to /d/g",
		"mkdir /d/e", "mkdir /d/e/h", "syncdir /d", "remove /d/e/h", "remove /d/e", "syncfs /d"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if c.Ops() != len(want)+2 {
		t.Errorf("Ops %d, want %d", c.Ops(), len(want)+2)
	}
}

func TestStopAfter(t *testing.T) {
	c := newDisk(t)
	f := open(t, c, "/d/f", os.O_RDWR|os.O_CREATE)
	c.StopAfter(2)
	for i := range 2 {
		_, err := f.WriteAt([]byte("x"), int64(i))
		ok(t, err)
	}
	_, werr := f.WriteAt([]byte("x"), 2)
	_, rerr := f.ReadAt(make([]byte, 1), 0)
	_, operr := c.OpenFile("/d/g", os.O_RDWR|os.O_CREATE, 0o600)
	_, serr := c.Stat("/d/f")
	for i, err := range []error{werr, rerr, operr, serr, f.Sync(), c.Rename("/d/f", "/d/g"), c.SyncDir("/d"), c.MkdirAll("/e", 0), c.RemoveAll("/d")} {
		if !errors.Is(err, ErrCrashed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	ok(t, f.Close())
	if got := state(t, c.Crash(KeepAll, 0)); got != "f=xx" {
		t.Errorf("left %q", got)
	}
	// A crash in the middle of an operation of several steps.
	c = newDisk(t)
	play(t, c, "write e 0 x\nmkdir g\nwrite g/a 0 x\nwrite g/b 0 x")
	c.StopAfter(1)
	if err := c.RemoveAll("/d/g"); !errors.Is(err, ErrCrashed) {
		t.Errorf("RemoveAll: %v", err)
	}
	if got := state(t, c.Crash(KeepAll, 0)); got != "e=x g/ g/b=x" {
		t.Errorf("left %q", got)
	}
}

func TestLimitIsADiskThatFillsUp(t *testing.T) {
	c := newDisk(t)
	c.SetLimit(10)
	f := open(t, c, "/d/f", os.O_RDWR|os.O_CREATE)
	_, err := f.WriteAt([]byte("12345678"), 0)
	ok(t, err)
	if n, err := f.WriteAt([]byte("abcd"), 8); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v; want 2, ENOSPC", n, err)
	}
	if n, err := f.WriteAt([]byte("zz"), 8); n != 2 || err != nil {
		t.Errorf("overwrote %d, %v", n, err)
	}
	if u, err := c.Usage("/d"); u != (Usage{Total: 10, Usable: 0}) || err != nil {
		t.Errorf("usage %+v, %v", u, err)
	}
	ok(t, f.Truncate(4))
	put(t, c, "/d/g", "123")
	ok(t, c.Remove("/d/g"))
	if u, _ := c.Usage("/d"); u.Usable != 6 {
		t.Errorf("usable %d, want 6", u.Usable)
	}
	if u, _ := c.Crash(KeepAll, 0).Usage("/d"); u.Usable != 6 {
		t.Errorf("usable after a crash %d, want 6", u.Usable)
	}
}

// Crashing while others write: for the race detector, and every copy is a state
// that was: what one writer did later is not there without what it did before.
func TestCrashIsOneMoment(t *testing.T) {
	c := newDisk(t)
	var writers sync.WaitGroup
	for i := range 2 {
		a := open(t, c, fmt.Sprintf("/d/a%d", i), os.O_RDWR|os.O_CREATE)
		b := open(t, c, fmt.Sprintf("/d/b%d", i), os.O_RDWR|os.O_CREATE)
		writers.Go(func() {
			for at := range int64(500) {
				for _, f := range []File{a, b} {
					if _, err := f.WriteAt([]byte("x"), at); err != nil {
						t.Error(err)
					}
				}
				if at%50 == 0 && a.Sync() != nil {
					t.Error("sync failed")
				}
			}
		})
	}
	for range 100 {
		cut := c.Crash(Kill, 0)
		for i := range 2 {
			a, _ := get(cut, fmt.Sprintf("/d/a%d", i))
			b, _ := get(cut, fmt.Sprintf("/d/b%d", i))
			if len(a) != len(b) && len(a) != len(b)+1 {
				t.Fatalf("a has %d bytes, b %d", len(a), len(b))
			}
		}
	}
	writers.Wait()
}

func BenchmarkCrashPoint(b *testing.B) {
	c := NewCrash()
	for i := range 30 {
		name := fmt.Sprintf("/d%d/f", i%5) + strconv.Itoa(i)
		_ = c.MkdirAll(path.Dir(name), 0o700)
		f, err := c.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		for j := range 20 {
			_, _ = f.WriteAt(make([]byte, 200), int64(j*200))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Crash(Torn, uint64(b.N))
	}
}

// What Crash makes of a moment is what it would have made at that moment, whatever
// happens to the disk in between.
func TestMomentStays(t *testing.T) {
	seed := maphash.MakeSeed()
	c := newDisk(t)
	play(t, c, "write a 0 one\nsync a\nsyncdir .\nwrite a 3 two\nwrite b 0 new\nrename a c")
	m := c.Moment()
	want := map[Mode]uint64{}
	for _, mode := range []Mode{LoseUnsynced, KeepAll, LoseNames, LoseBytes, ZeroTail, Kill} {
		want[mode] = c.Crash(mode, 0).Fingerprint(seed)
	}
	play(t, c, "write b 0 other\nrm c\nsyncfs")
	for mode, print := range want {
		if m.Crash(mode, 0).Fingerprint(seed) != print {
			t.Errorf("%v: %s", mode, state(t, m.Crash(mode, 0)))
		}
	}
	if want[LoseUnsynced] == want[KeepAll] || want[KeepAll] != want[Kill] {
		t.Errorf("fingerprints %v", want)
	}
}

// A write under way when the moment was taken may be cut short by the kill, also when
// it has ended since.
func TestMomentOfAWriteUnderWay(t *testing.T) {
	c := newDisk(t)
	var m *Crash
	c.OnOp(func(op Op) {
		if op.Kind == OpWrite {
			m = c.Moment()
		}
	})
	play(t, c, "write a 0 "+strings.Repeat("x", 2000))
	sizes := map[int]bool{}
	for seed := uint64(1); seed < 30; seed++ {
		sizes[len(state(t, m.Crash(Kill, seed)))] = true
	}
	if len(sizes) < 3 {
		t.Errorf("a kill left only %v", sizes)
	}
}

// Damage does what it says, of each kind.
func TestDamage(t *testing.T) {
	kinds := map[string]int{}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		c := newDisk(t)
		play(t, c, "write a 0 "+strings.Repeat("x", 1500)+"\nwrite e 0 "+strings.Repeat("y", 600))
		before := state(t, c)
		what, err := Damage(c, "/d/a", rng)
		ok(t, err)
		kind, _, _ := strings.Cut(what, ":")
		kinds[kind]++
		if state(t, c) == before {
			t.Errorf("%s changed nothing", what)
		}
	}
	if len(kinds) != 4 || kinds["flip"] < kinds["zero"] {
		t.Errorf("kinds %v", kinds)
	}
	names, err := Files(newDisk(t), "/")
	if err != nil || len(names) != 0 {
		t.Errorf("files of an empty disk: %v, %v", names, err)
	}
}

// deep calls f from n frames further down.
func deep(n int, f func() Site) Site {
	if n > 0 {
		return deep(n-1, f)
	}
	return f()
}

// An operation tells the first place outside of this package and of the helpers.
func TestSite(t *testing.T) {
	if s := (*Sites)(nil).here(); s != (Site{}) {
		t.Errorf("not asked for: %v", s)
	}
	runner, none := NewSites(func(f string) bool { return f == "testing.tRunner" }), NewSites(nil)
	for range 2 { // found out, and known
		if s := runner.here(); s.Func != "runtime.goexit" {
			t.Errorf("with the test's runner as a helper: %v", s)
		}
		if s := none.here(); s.Func != "testing.tRunner" || !strings.HasPrefix(s.String(), "testing.go:") {
			t.Errorf("outside of the package: %v", s)
		}
		if s := deep(2*knownDepth, none.here); s.Func != "testing.tRunner" {
			t.Errorf("far outside of the package: %v", s)
		}
	}
}
