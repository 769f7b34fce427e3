package vfs

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// code reduces an error to its errno, so that implementations can be compared.
func code(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case err == io.EOF:
		return "EOF"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// anyCall does one random call below dir and says what came of it.
func anyCall(r *rand.Rand, fsys FS, dir string) string {
	name := func() string {
		all := []string{"a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a"}
		return all[r.IntN(len(all))]
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	one, two, off, n := name(), name(), r.Int64N(3*pageBytes), r.IntN(2*pageBytes)
	switch kind := r.IntN(16); kind {
	case 0:
		return fmt.Sprint("mkdir ", one, " ", code(fsys.MkdirAll(in(one), 0o700)))
	case 1:
		return fmt.Sprint("rename ", one, " ", two, " ", code(fsys.Rename(in(one), in(two))))
	case 2:
		return fmt.Sprint("remove ", one, " ", code(fsys.Remove(in(one))))
	case 3:
		if r.IntN(4) > 0 {
			return ""
		}
		return fmt.Sprint("removeall ", one, " ", code(fsys.RemoveAll(in(one))))
	case 4:
		return fmt.Sprint("syncdir ", one, " ", code(fsys.SyncDir(in(one))))
	default:
		flag := os.O_RDWR
		if kind < 10 {
			flag |= os.O_CREATE
		}
		if kind == 9 {
			flag |= os.O_TRUNC
		}
		f, err := fsys.OpenFile(in(one), flag, 0o600)
		if err != nil {
			return fmt.Sprint("open ", one, " ", code(err))
		}
		defer f.Close()
		if kind == 11 {
			return fmt.Sprint("truncate ", one, " ", off, " ", code(f.Truncate(off)))
		}
		if kind == 12 {
			b := make([]byte, n)
			got, err := f.ReadAt(b, off)
			return fmt.Sprint("read ", one, " ", off, " ", got, " ", code(err), " ", string(b[:got]))
		}
		b := []byte(strings.Repeat(string(rune('A'+r.IntN(26))), n))
		got, err := f.WriteBuffersAt([][]byte{b[:n/3], b[n/3:]}, off)
		if kind == 13 {
			err = errors.Join(err, f.Sync())
		}
		return fmt.Sprint("write ", one, " ", off, " ", got, " ", code(err))
	}
}

// The memory file systems do what the operating system does, call by call.
func TestMemoryBehavesLikeTheOS(t *testing.T) {
	for seed := range uint64(8) {
		type subject struct {
			fs  FS
			dir string
			r   *rand.Rand
		}
		var all []subject
		for _, s := range []subject{{fs: OS(), dir: t.TempDir()}, {fs: NewMem(), dir: "/m"}, {fs: NewCrash(), dir: "/c"}} {
			ok(t, s.fs.MkdirAll(s.dir, 0o700))
			s.r = rand.New(rand.NewPCG(seed, 1))
			all = append(all, s)
		}
		for call := range 400 {
			want := anyCall(all[0].r, all[0].fs, all[0].dir)
			for _, s := range all[1:] {
				if got := anyCall(s.r, s.fs, s.dir); got != want {
					t.Fatalf("seed %d call %d of %T: got %.200s\nwant %.200s", seed, call, s.fs, got, want)
				}
			}
			if call%20 > 0 {
				continue
			}
			want = list(t, all[0].fs, all[0].dir)
			for _, s := range all[1:] {
				if got := list(t, s.fs, s.dir); got != want {
					t.Fatalf("seed %d call %d: %T lists %.300s\nwant %.300s", seed, call, s.fs, got, want)
				}
			}
		}
	}
}

// Whatever happened before: KeepAll and Kill leave all of it, every mode leaves
// what was there at a SyncFS, and a crash changes neither the original nor, later,
// the copy.
func TestCrashAfterRandomCalls(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		c := newDisk(t)
		for range 60 {
			for range r.IntN(8) {
				anyCall(r, c, "/d")
			}
			want := list(t, c, "/d")
			kept, killed, torn := c.Crash(KeepAll, seed), c.Crash(Kill, seed), c.Crash(Torn, seed)
			left := list(t, torn, "/d")
			if got := list(t, kept, "/d"); got != want {
				t.Fatalf("seed %d: keep-all leaves %.300s\nwant %.300s", seed, got, want)
			}
			if r.IntN(3) == 0 {
				ok(t, c.SyncFS("/"))
				ok(t, killed.SyncFS("/"))
				for _, mode := range Modes() {
					for _, disk := range []*Crash{c, killed} {
						if got := list(t, disk.Crash(mode, seed), "/d"); got != want {
							t.Fatalf("seed %d: %v after SyncFS leaves %.300s\nwant %.300s", seed, mode, got, want)
						}
					}
				}
			}
			anyCall(r, c, "/d")
			anyCall(r, kept, "/d")
			if got := list(t, torn.Crash(LoseUnsynced, 0), "/d"); got != left {
				t.Fatalf("seed %d: a torn disk changed to %.300s\nfrom %.300s", seed, got, left)
			}
			if u, err := c.Usage("/"); err != nil || u.Usable != u.Total-bytesBelow(t, c, "/") {
				t.Fatalf("seed %d: usage %+v, %v", seed, u, err)
			}
		}
	}
}

func bytesBelow(t *testing.T, fsys FS, dir string) (sum int64) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	ok(t, err)
	for _, e := range entries {
		info, err := e.Info()
		ok(t, err)
		if e.IsDir() {
			sum += bytesBelow(t, fsys, filepath.Join(dir, e.Name()))
		} else {
			sum += info.Size()
		}
	}
	return sum
}
