package vfs

import (
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Rule says which calls of a Fault go wrong, and how. A call must match Kind,
// Path, Site and Call; of those that do, Nth and Times choose.
type Rule struct {
	Kind OpKind // OpAny = every kind
	// Path is a pattern of path.Match, empty for all. It is compared with the whole
	// name if it has a slash, otherwise with the last part. For OpRename the old or
	// the new name may match.
	Path  string
	Site  Site // only calls from there, see Trace; empty = any
	Call  int  // only the call with this number; 0 = any
	Nth   int  // the first matching call that goes wrong, from 1; 0 = 1
	Times int  // how many matching calls go wrong from there; 0 = 1, below 0 = all

	// Err is returned, wrapped like the os package does. A Sync or SyncFS that
	// fails over a Crash loses what was pending.
	Err error
	// Short bytes are read or written before the error, which is io.ErrShortWrite
	// if Err is nil.
	Short int
	// After carries the call out before Err is returned.
	After bool
	// Delay passes before anything else happens.
	Delay time.Duration
	// Do is called after Delay, with no mutex held. It may block.
	Do func(Op)
	// Usage is the answer to OpUsage.
	Usage *Usage
}

// Matches reports whether the rule is about op.
func (r *Rule) Matches(op Op) bool {
	if r.Kind != OpAny && r.Kind != op.Kind || r.Call > 0 && r.Call != op.Call || r.Site != (Site{}) && r.Site != op.Site {
		return false
	}
	return r.Path == "" || r.matchesName(op.Name) || op.To != "" && r.matchesName(op.To)
}

func (r *Rule) matchesName(name string) bool {
	name = filepath.ToSlash(name)
	if !strings.Contains(r.Path, "/") {
		name = path.Base(name)
	}
	ok, err := path.Match(r.Path, name)
	return ok && err == nil
}

// Fault wraps a file system, writes down all calls and makes some go wrong.
type Fault struct {
	inner FS
	trace atomic.Pointer[Sites]

	mu    sync.Mutex
	rules []*script
	calls []Op
}

// script is a rule and the matching calls so far.
type script struct {
	Rule
	seen int
}

// NewFault wraps inner. Of several rules that match a call the first counts.
func NewFault(inner FS, rules ...Rule) *Fault {
	f := &Fault{inner: inner}
	f.SetRules(rules...)
	return f
}

// SetRules replaces the rules, for calls from now on.
func (f *Fault) SetRules(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
	for _, r := range rules {
		f.rules = append(f.rules, &script{Rule: r})
	}
}

// Trace has calls from now on tell where they come from, Op.Site.
func (f *Fault) Trace(sites *Sites) { f.trace.Store(sites) }

// Calls returns every call so far, in order. Calls()[i].Call is i+1.
func (f *Fault) Calls() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// begin writes the call down and returns the rule for it, an empty one if it
// shall go well.
func (f *Fault) begin(op Op) Rule {
	op.Site = f.trace.Load().here()
	r := f.choose(&op)
	if r.Delay > 0 {
		time.Sleep(r.Delay)
	}
	if r.Do != nil {
		r.Do(op)
	}
	return r
}

func (f *Fault) choose(op *Op) Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	op.Call = len(f.calls) + 1
	f.calls = append(f.calls, *op)
	var chosen Rule
	found := false
	for _, s := range f.rules {
		if !s.Matches(*op) {
			continue
		}
		s.seen++
		first, times := max(1, s.Nth), s.Times
		if times == 0 {
			times = 1
		}
		if !found && s.seen >= first && (times < 0 || s.seen < first+times) {
			chosen, found = s.Rule, true
		}
	}
	return chosen
}

// run carries out one call that returns nothing but an error.
func (f *Fault) run(op Op, call func() error) error {
	r := f.begin(op)
	if r.Err == nil {
		return call()
	}
	if r.After {
		if err := call(); err != nil {
			return err
		}
	}
	return failed(op.Kind.String(), op.Name, r.Err)
}

// value carries out one call that returns a value.
func value[T any](f *Fault, op Op, call func() (T, error)) (T, error) {
	var v T
	err := f.run(op, func() (err error) { v, err = call(); return err })
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

func (f *Fault) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	var file File
	err := f.run(Op{Kind: OpOpen, Name: name}, func() (err error) {
		file, err = f.inner.OpenFile(name, flag, perm)
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close() // the caller never had it
		}
		return nil, err
	}
	return &faultFile{File: file, f: f}, nil
}

func (f *Fault) Rename(oldname, newname string) error {
	return f.run(Op{Kind: OpRename, Name: oldname, To: newname}, func() error { return f.inner.Rename(oldname, newname) })
}

func (f *Fault) Remove(name string) error {
	return f.run(Op{Kind: OpRemove, Name: name}, func() error { return f.inner.Remove(name) })
}

func (f *Fault) RemoveAll(name string) error {
	return f.run(Op{Kind: OpRemove, Name: name}, func() error { return f.inner.RemoveAll(name) })
}

func (f *Fault) MkdirAll(name string, perm fs.FileMode) error {
	return f.run(Op{Kind: OpMkdir, Name: name}, func() error { return f.inner.MkdirAll(name, perm) })
}

func (f *Fault) ReadDir(name string) ([]fs.DirEntry, error) {
	return value(f, Op{Kind: OpReadDir, Name: name}, func() ([]fs.DirEntry, error) { return f.inner.ReadDir(name) })
}

func (f *Fault) Stat(name string) (fs.FileInfo, error) {
	return value(f, Op{Kind: OpStat, Name: name}, func() (fs.FileInfo, error) { return f.inner.Stat(name) })
}

func (f *Fault) SyncDir(name string) error {
	return f.run(Op{Kind: OpSyncDir, Name: name}, func() error { return f.inner.SyncDir(name) })
}

// forgetful is implemented by file systems and files that can lose what is not
// yet durable, as a failed sync does.
type forgetful interface{ dropPending() }

func (f *Fault) SyncFS(name string) error {
	return f.sync(Op{Kind: OpSyncFS, Name: name}, f.inner, func() error { return f.inner.SyncFS(name) })
}

func (f *Fault) sync(op Op, of any, call func() error) error {
	carriedOut := false
	err := f.run(op, func() error { carriedOut = true; return call() })
	if d, ok := of.(forgetful); ok && err != nil && !carriedOut {
		d.dropPending()
	}
	return err
}

func (f *Fault) Lock(name string) (io.Closer, error) {
	l, err := value(f, Op{Kind: OpLock, Name: name}, func() (io.Closer, error) { return f.inner.Lock(name) })
	if err != nil {
		return nil, err
	}
	return &faultLock{l, f, name}, nil
}

// faultLock is a lock whose Close is seen.
type faultLock struct {
	inner io.Closer
	f     *Fault
	name  string
}

// Close always gives the lock up, like faultFile's.
func (l *faultLock) Close() error {
	r := l.f.begin(Op{Kind: OpClose, Name: l.name})
	if err := l.inner.Close(); err != nil {
		return err
	}
	return failed("close", l.name, r.Err)
}

func (f *Fault) Usage(name string) (Usage, error) {
	r := f.begin(Op{Kind: OpUsage, Name: name})
	switch {
	case r.Err != nil:
		return Usage{}, failed("usage", name, r.Err)
	case r.Usage != nil:
		return *r.Usage, nil
	}
	return f.inner.Usage(name)
}

// faultFile takes Name and Fd from the inner file: a sendfile is not seen.
type faultFile struct {
	File
	f *Fault
}

func (f *faultFile) op(kind OpKind, off int64, n int) Op {
	return Op{Kind: kind, Name: f.Name(), Off: off, Len: n}
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	return f.transfer(f.op(OpRead, off, len(b)), io.ErrUnexpectedEOF, func(n int) (int, error) {
		return f.File.ReadAt(b[:n], off)
	})
}

func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	return f.transfer(f.op(OpWrite, off, len(b)), io.ErrShortWrite, func(n int) (int, error) {
		return f.File.WriteAt(b[:n], off)
	})
}

func (f *faultFile) WriteBuffersAt(bufs [][]byte, off int64) (int, error) {
	total := 0
	for _, b := range bufs {
		total += len(b)
	}
	return f.transfer(f.op(OpWrite, off, total), io.ErrShortWrite, func(n int) (int, error) {
		return f.File.WriteBuffersAt(first(bufs, n), off)
	})
}

// first returns the first n bytes of bufs.
func first(bufs [][]byte, n int) [][]byte {
	var out [][]byte
	for _, b := range bufs {
		b = b[:min(n, len(b))]
		out = append(out, b)
		n -= len(b)
	}
	return out
}

// transfer carries out a read or write of op.Len bytes; call does the first n.
func (f *faultFile) transfer(op Op, short error, call func(n int) (int, error)) (int, error) {
	r := f.f.begin(op)
	if r.Err == nil && r.Short == 0 {
		return call(op.Len)
	}
	if r.Err == nil {
		r.Err = short
	}
	want := min(r.Short, op.Len)
	if r.After {
		want = op.Len
	}
	n := 0
	if want > 0 {
		var err error
		if n, err = call(want); err != nil {
			return n, err
		}
	}
	return n, failed(op.Kind.String(), op.Name, r.Err)
}

func (f *faultFile) Truncate(size int64) error {
	return f.f.run(f.op(OpTruncate, size, 0), func() error { return f.File.Truncate(size) })
}

func (f *faultFile) Preallocate(off, n int64) error {
	return f.f.run(f.op(OpPreallocate, off, int(n)), func() error { return f.File.Preallocate(off, n) })
}

func (f *faultFile) Sync() error {
	return f.f.sync(f.op(OpSync, 0, 0), f.File, f.File.Sync)
}

func (f *faultFile) Size() (int64, error) {
	return value(f.f, f.op(OpSize, 0, 0), f.File.Size)
}

// Close always closes: a descriptor is gone whatever close(2) says.
func (f *faultFile) Close() error {
	r := f.f.begin(f.op(OpClose, 0, 0))
	if err := f.File.Close(); err != nil {
		return err
	}
	return failed("close", f.Name(), r.Err)
}
