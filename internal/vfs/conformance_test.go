package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// each runs the test over every implementation. The directory exists.
func each(t *testing.T, test func(t *testing.T, fsys FS, dir string)) {
	t.Helper()
	t.Run("os", func(t *testing.T) { test(t, OS(), t.TempDir()) })
	for name, fsys := range map[string]FS{"mem": NewMem(), "crash": NewCrash(), "fault": NewFault(NewMem())} {
		t.Run(name, func(t *testing.T) {
			if err := fsys.MkdirAll("/data/dir", 0o700); err != nil {
				t.Fatal(err)
			}
			test(t, fsys, "/data/dir")
		})
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, fsys FS, name string, flag int) File {
	t.Helper()
	f, err := fsys.OpenFile(name, flag, 0o600)
	ok(t, err)
	t.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return f
}

func put(t *testing.T, fsys FS, name, text string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	ok(t, err)
	_, err = f.WriteAt([]byte(text), 0)
	ok(t, err)
	ok(t, f.Close())
}

func get(fsys FS, name string) (string, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return "", err
	}
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	return string(b), err
}

// tree lists all below dir: "name/" or "name=text", sorted.
func list(t *testing.T, fsys FS, dir string) string {
	t.Helper()
	var out []string
	var walk func(dir, prefix string)
	walk = func(dir, prefix string) {
		entries, err := fsys.ReadDir(dir)
		ok(t, err)
		for _, e := range entries {
			if e.IsDir() {
				out = append(out, prefix+e.Name()+"/")
				walk(filepath.Join(dir, e.Name()), prefix+e.Name()+"/")
				continue
			}
			text, err := get(fsys, filepath.Join(dir, e.Name()))
			ok(t, err)
			out = append(out, prefix+e.Name()+"="+text)
		}
	}
	walk(dir, "")
	return strings.Join(out, " ")
}

func TestFileReadsWhatWasWritten(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		f := open(t, fsys, filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE)
		want := make([]byte, 3*pageBytes+100)
		write := func(off, n int, b byte) {
			t.Helper()
			part := bytes.Repeat([]byte{b}, n)
			wrote, err := f.WriteAt(part, int64(off))
			if wrote != n || err != nil {
				t.Fatalf("wrote %d, %v", wrote, err)
			}
			copy(want[off:], part)
		}
		write(2*pageBytes+5, pageBytes+95, 'a') // leaves a hole
		write(pageBytes-10, 20, 'b')
		write(pageBytes, pageBytes, 'c')
		got := make([]byte, len(want)+50)
		n, err := f.ReadAt(got, 0)
		if n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
			t.Fatalf("read %d bytes, %v, want %d and EOF with the same bytes", n, err, len(want))
		}
		if n, err := f.ReadAt(got, int64(len(want))); n != 0 || err != io.EOF {
			t.Errorf("read at the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(got[:10], 20); n != 10 || err != nil {
			t.Errorf("read inside: %d, %v", n, err)
		}
		if size, err := f.Size(); size != int64(len(want)) || err != nil {
			t.Errorf("size %d, %v", size, err)
		}
		ok(t, f.Sync())
	})
}

func TestTruncateCutsAndFillsWithZeros(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		f := open(t, fsys, name, os.O_RDWR|os.O_CREATE)
		_, err := f.WriteAt(bytes.Repeat([]byte("x"), 2*pageBytes), 0)
		ok(t, err)
		for _, size := range []int64{pageBytes + 3, 7, 2 * pageBytes, 2 * pageBytes, 3, 5, 0, 4} {
			before, err := get(fsys, name)
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
			ok(t, f.Truncate(size))
			want := make([]byte, size)
			copy(want, before)
			if got, err := get(fsys, name); got != string(want) || err != nil {
				t.Fatalf("truncate to %d: %d bytes, %v; or not the old bytes and zeros", size, len(got), err)
			}
		}
		if err := f.Truncate(-1); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("truncate to -1: %v", err)
		}
	})
}

func TestWriteBuffersAt(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		f := open(t, fsys, filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE)
		for _, count := range []int{0, 1, 2, 3000} {
			ok(t, f.Truncate(0))
			var bufs [][]byte
			want := make([]byte, 5)
			for i := range count {
				b := []byte(fmt.Sprint(i))
				if i%7 == 3 {
					b = nil
				}
				bufs = append(bufs, b)
				want = append(want, b...)
			}
			if count == 0 {
				want = nil
			}
			n, err := f.WriteBuffersAt(bufs, 5)
			if err != nil || n != max(0, len(want)-5) {
				t.Fatalf("%d buffers: wrote %d, %v", count, n, err)
			}
			if got, err := get(fsys, f.Name()); got != string(want) || err != nil && err != io.EOF {
				t.Fatalf("%d buffers: read %d bytes, %v", count, len(got), err)
			}
		}
	})
}

func TestPreallocateKeepsTheSize(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		f := open(t, fsys, filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE)
		_, err := f.WriteAt([]byte("abc"), 0)
		ok(t, err)
		ok(t, f.Preallocate(0, 1<<20))
		if size, _ := f.Size(); size != 3 {
			t.Errorf("size %d after Preallocate, want 3", size)
		}
		ok(t, f.Preallocate(5, 0))
		ok(t, f.Truncate(3))
		if got, err := get(fsys, f.Name()); got != "abc" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestOpenFlags(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		if _, err := fsys.OpenFile(name, os.O_RDWR, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open missing: %v", err)
		}
		if _, err := fsys.OpenFile(filepath.Join(dir, "no", "f"), os.O_RDWR|os.O_CREATE, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("create in missing directory: %v", err)
		}
		put(t, fsys, name, "abc")
		if _, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("exclusive create: %v", err)
		}
		if _, err := fsys.OpenFile(dir, os.O_RDWR, 0); !errors.Is(err, syscall.EISDIR) {
			t.Errorf("open directory: %v", err)
		}
		if _, err := fsys.OpenFile(filepath.Join(name, "g"), os.O_RDWR, 0); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("open below a file: %v", err)
		}
		r := open(t, fsys, name, os.O_RDONLY)
		if _, err := r.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EBADF) {
			t.Errorf("write read-only: %v", err)
		}
		w := open(t, fsys, name, os.O_WRONLY)
		if _, err := w.ReadAt(make([]byte, 1), 0); !errors.Is(err, syscall.EBADF) {
			t.Errorf("read write-only: %v", err)
		}
		open(t, fsys, name, os.O_RDWR|os.O_TRUNC)
		if size, err := r.Size(); size != 0 || err != nil {
			t.Errorf("size %d, %v after O_TRUNC", size, err)
		}
		ok(t, r.Close())
		if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read closed: %v", err)
		}
		if err := r.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("close closed: %v", err)
		}
	})
}

func TestNames(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		in := func(name string) string { return filepath.Join(dir, name) }
		ok(t, fsys.MkdirAll(in("d/e"), 0o700))
		ok(t, fsys.MkdirAll(in("d/e"), 0o700))
		put(t, fsys, in("d/x"), "x")
		put(t, fsys, in("a"), "a")
		held := open(t, fsys, in("a"), os.O_RDWR)
		ok(t, fsys.Rename(in("a"), in("d/x"))) // replaces
		ok(t, fsys.Rename(in("d"), in("b")))   // whole directory
		ok(t, fsys.SyncDir(dir))
		if got := list(t, fsys, dir); got != "b/ b/e/ b/x=a" {
			t.Errorf("have %q", got)
		}
		_, err := held.WriteAt([]byte("A"), 0) // the handle goes along
		ok(t, err)
		if held.Name() != in("a") {
			t.Errorf("name %q", held.Name())
		}
		for _, tt := range []struct {
			what string
			err  error
			want error
		}{
			{"mkdir over file", fsys.MkdirAll(in("b/x/y"), 0o700), syscall.ENOTDIR},
			{"rename missing", fsys.Rename(in("no"), in("b/z")), fs.ErrNotExist},
			{"rename over directory", fsys.Rename(in("b/x"), in("b/e")), fs.ErrExist},
			{"rename directory over file", fsys.Rename(in("b/e"), in("b/x")), syscall.ENOTDIR},
			{"rename into itself", fsys.Rename(in("b"), in("b/e/b")), syscall.EINVAL},
			{"remove full directory", fsys.Remove(in("b")), syscall.ENOTEMPTY},
			{"remove missing", fsys.Remove(in("no")), fs.ErrNotExist},
			{"syncdir missing", fsys.SyncDir(in("no")), fs.ErrNotExist},
		} {
			if !errors.Is(tt.err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.what, tt.err, tt.want)
			}
		}
		ok(t, fsys.Remove(in("b/x")))
		if b := make([]byte, 1); true {
			if _, err := held.ReadAt(b, 0); err != nil || b[0] != 'A' {
				t.Errorf("removed file reads %q, %v", b, err)
			}
		}
		ok(t, fsys.RemoveAll(in("b")))
		ok(t, fsys.RemoveAll(in("b")))
		if got := list(t, fsys, dir); got != "" {
			t.Errorf("have %q, want nothing", got)
		}
	})
}

func TestReadDirAndStat(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		for _, name := range []string{"c", "a", "b"} {
			put(t, fsys, filepath.Join(dir, name), name+name)
		}
		ok(t, fsys.MkdirAll(filepath.Join(dir, "aa"), 0o700))
		entries, err := fsys.ReadDir(dir)
		ok(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != "a aa b c" {
			t.Errorf("ReadDir: %s", got)
		}
		info, err := fsys.Stat(filepath.Join(dir, "b"))
		ok(t, err)
		if info.Name() != "b" || info.Size() != 2 || info.IsDir() || info.Mode() != 0o600 || info.ModTime().IsZero() {
			t.Errorf("Stat: %+v", info)
		}
		info, err = fsys.Stat(filepath.Join(dir, "aa"))
		if err != nil || !info.IsDir() || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("Stat: %+v, %v", info, err)
		}
		if _, err := fsys.Stat(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat: %v", err)
		}
		if _, err := fsys.ReadDir(filepath.Join(dir, "a")); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("ReadDir of a file: %v", err)
		}
	})
}

func TestLock(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, ".lock")
		l, err := fsys.Lock(name)
		ok(t, err)
		_, err = fsys.Lock(name)
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
			t.Errorf("second lock: %v", err)
		}
		ok(t, l.Close())
		l, err = fsys.Lock(name)
		ok(t, err)
		ok(t, l.Close())
	})
}

func TestUsageAndSyncFS(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		u, err := fsys.Usage(dir)
		if err != nil || u.Total <= 0 || u.Usable <= 0 || u.Usable > u.Total {
			t.Errorf("usage %+v, %v", u, err)
		}
		if _, err := fsys.Usage(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("usage of missing: %v", err)
		}
		if err := fsys.SyncFS(dir); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("SyncFS: %v", err)
		}
	})
}
