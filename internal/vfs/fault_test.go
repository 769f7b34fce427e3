package vfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Each kind of call fails when told to, once, wrapped, and leaves nothing behind.
func TestFaultFailsEveryKindOfCall(t *testing.T) {
	calls := map[OpKind]func(FS, File) error{
		OpOpen:        func(f FS, _ File) error { _, err := f.OpenFile("/d/new", os.O_RDWR|os.O_CREATE, 0o600); return err },
		OpRename:      func(f FS, _ File) error { return f.Rename("/d/f", "/d/g") },
		OpRemove:      func(f FS, _ File) error { return f.Remove("/d/f") },
		OpMkdir:       func(f FS, _ File) error { return f.MkdirAll("/d/e", 0o700) },
		OpReadDir:     func(f FS, _ File) error { _, err := f.ReadDir("/d"); return err },
		OpStat:        func(f FS, _ File) error { _, err := f.Stat("/d/f"); return err },
		OpSyncDir:     func(f FS, _ File) error { return f.SyncDir("/d") },
		OpSyncFS:      func(f FS, _ File) error { return f.SyncFS("/d") },
		OpLock:        func(f FS, _ File) error { _, err := f.Lock("/d/.lock"); return err },
		OpUsage:       func(f FS, _ File) error { _, err := f.Usage("/d"); return err },
		OpRead:        func(_ FS, f File) error { _, err := f.ReadAt(make([]byte, 3), 0); return err },
		OpWrite:       func(_ FS, f File) error { _, err := f.WriteBuffersAt([][]byte{{'x'}, {'y'}}, 0); return err },
		OpTruncate:    func(_ FS, f File) error { return f.Truncate(1) },
		OpPreallocate: func(_ FS, f File) error { return f.Preallocate(0, 10) },
		OpSync:        func(_ FS, f File) error { return f.Sync() },
		OpSize:        func(_ FS, f File) error { _, err := f.Size(); return err },
	}
	for kind, call := range calls {
		t.Run(kind.String(), func(t *testing.T) {
			c := newDisk(t)
			play(t, c, "write f 0 abc\nsyncfs")
			fault := NewFault(c)
			file := open(t, fault, "/d/f", os.O_RDWR)
			fault.SetRules(Rule{Kind: kind, Err: syscall.EIO})
			if err := call(fault, file); !errors.Is(err, syscall.EIO) {
				t.Errorf("got %v, want EIO", err)
			}
			if got := state(t, c); got != "f=abc" {
				t.Errorf("the failed call left %q", got)
			}
			ok(t, call(fault, file)) // Times 0 is once
			calls := fault.Calls()
			if n := len(calls); n != 3 || calls[1].Kind != kind || calls[2].Kind != kind || calls[2].Call != 3 {
				t.Errorf("calls %v", calls)
			}
		})
	}
}

func TestFaultRules(t *testing.T) {
	tests := []struct {
		name  string
		rules []Rule
		want  string // of six writes, in turn to a.log, b.log and c.idx; E = failed
	}{
		{"none", nil, "......"},
		{"first", []Rule{{Kind: OpWrite, Err: io.ErrClosedPipe}}, "E....."},
		{"third", []Rule{{Kind: OpWrite, Nth: 3, Err: io.ErrClosedPipe}}, "..E..."},
		{"from the third", []Rule{{Kind: OpWrite, Nth: 3, Times: -1, Err: io.ErrClosedPipe}}, "..EEEE"},
		{"third and fourth", []Rule{{Kind: OpWrite, Nth: 3, Times: 2, Err: io.ErrClosedPipe}}, "..EE.."},
		{"second of a pattern", []Rule{{Path: "*.log", Kind: OpWrite, Nth: 2, Err: io.ErrClosedPipe}}, ".E...."},
		{"whole path", []Rule{{Path: "/d/c.*", Kind: OpWrite, Times: -1, Err: io.ErrClosedPipe}}, "..E..E"},
		{"path that is not there", []Rule{{Path: "/e/*", Times: -1, Err: io.ErrClosedPipe}}, "......"},
		{"call number", []Rule{{Call: 5, Err: io.ErrClosedPipe}}, ".E...."}, // three opens come first
		{"two rules", []Rule{{Path: "a.log", Kind: OpWrite, Nth: 2, Err: io.ErrClosedPipe}, {Kind: OpWrite, Err: io.ErrClosedPipe}}, "E..E.."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMem()
			ok(t, m.MkdirAll("/d", 0o700))
			fault := NewFault(m, tt.rules...)
			var files []File
			for _, name := range []string{"/d/a.log", "/d/b.log", "/d/c.idx"} {
				files = append(files, open(t, fault, name, os.O_RDWR|os.O_CREATE))
			}
			got := ""
			for i := range 6 {
				_, err := files[i%3].WriteAt([]byte("x"), 0)
				switch {
				case err == nil:
					got += "."
				case errors.Is(err, io.ErrClosedPipe):
					got += "E"
				default:
					t.Fatal(err)
				}
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestFaultShortTransfers(t *testing.T) {
	m := NewMem()
	ok(t, m.MkdirAll("/d", 0o700))
	fault := NewFault(m)
	f := open(t, fault, "/d/f", os.O_RDWR|os.O_CREATE)
	fault.SetRules(Rule{Kind: OpWrite, Short: 2}, Rule{Kind: OpRead, Short: 1}, Rule{Kind: OpWrite, Nth: 2, Short: 3, Err: syscall.ENOSPC},
		Rule{Kind: OpWrite, Nth: 3, After: true, Err: syscall.EIO})
	if n, err := f.WriteAt([]byte("abc"), 0); n != 2 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if n, err := f.WriteBuffersAt([][]byte{[]byte("de"), []byte("fg")}, 2); n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
	b := make([]byte, 3)
	if n, err := f.ReadAt(b, 0); n != 1 || !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(b, []byte("a\x00\x00")) {
		t.Errorf("read %d %q, %v", n, b, err)
	}
	if got, err := get(m, "/d/f"); got != "abdef" || err != nil {
		t.Errorf("have %q, %v", got, err)
	}
	if n, err := f.WriteAt([]byte("XYZ"), 0); n != 3 || !errors.Is(err, syscall.EIO) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if got, err := get(m, "/d/f"); got != "XYZef" || err != nil {
		t.Errorf("have %q, %v", got, err)
	}
}

// The second Sync succeeds, and the power cut shows that it says nothing.
func TestFailedSyncLosesWhatWasPending(t *testing.T) {
	tests := []struct {
		name string
		fail func(fault *Fault, f File) error
		rule Rule
		want string
	}{
		{"sync", func(_ *Fault, f File) error { return f.Sync() }, Rule{Kind: OpSync, Err: syscall.EIO}, "f=abc..."},
		{"syncfs", func(fault *Fault, _ File) error { return fault.SyncFS("/d") }, Rule{Kind: OpSyncFS, Err: syscall.EIO}, "f=abc..."},
		{"sync that did its work", func(_ *Fault, f File) error { return f.Sync() }, Rule{Kind: OpSync, After: true, Err: syscall.EIO}, "f=abcdef"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newDisk(t)
			play(t, c, "write f 0 abc\nsyncfs")
			fault := NewFault(c, tt.rule)
			f := open(t, fault, "/d/f", os.O_RDWR)
			_, err := f.WriteAt([]byte("def"), 3)
			ok(t, err)
			if err := tt.fail(fault, f); !errors.Is(err, syscall.EIO) {
				t.Fatalf("got %v, want EIO", err)
			}
			if got := state(t, c); got != "f=abcdef" {
				t.Errorf("the page cache has %q", got)
			}
			ok(t, f.Sync())
			ok(t, fault.SyncFS("/d"))
			for _, mode := range []Mode{LoseUnsynced, KeepAll, Torn} {
				if got := state(t, c.Crash(mode, 3)); got != tt.want {
					t.Errorf("%v leaves %q, want %q", mode, got, tt.want)
				}
			}
		})
	}
}

func TestFaultDelayDoAndUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMem()
		var saw Op
		fault := NewFault(m, Rule{Kind: OpMkdir, Delay: time.Minute, Do: func(op Op) { saw = op }},
			Rule{Kind: OpUsage, Times: -1, Usage: &Usage{Total: 100, Usable: 1}})
		start := time.Now()
		ok(t, fault.MkdirAll("/d", 0o700))
		if took := time.Since(start); took != time.Minute {
			t.Errorf("took %v, want 1m", took)
		}
		if want := (Op{Kind: OpMkdir, Name: "/d", Call: 1}); saw != want {
			t.Errorf("Do saw %v, want %v", saw, want)
		}
		if u, err := fault.Usage("/d"); u != (Usage{Total: 100, Usable: 1}) || err != nil {
			t.Errorf("usage %+v, %v", u, err)
		}
	})
}

func TestFailedCloseCloses(t *testing.T) {
	m := NewMem()
	fault := NewFault(m, Rule{Kind: OpClose, Err: syscall.EIO})
	f, err := fault.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o600)
	ok(t, err)
	if err := f.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want closed", err)
	}
}
