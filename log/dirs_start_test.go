package log

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// copyDir copies a partition's directory.
func (b *dirsRig) copyDir(from, to string) {
	b.t.Helper()
	entries, err := b.fs.ReadDir(from)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.fs.MkdirAll(to, 0o700); err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		text, err := readFile(b.fs, filepath.Join(from, e.Name()), 1<<20)
		if err != nil {
			b.t.Fatal(err)
		}
		if err := writeFile(b.fs, filepath.Join(to, e.Name()), text, true); err != nil {
			b.t.Fatal(err)
		}
	}
}

// list names what is in the directories, with x for the digits of retired names.
func (b *dirsRig) list() string {
	var all []string
	for _, dir := range b.names {
		entries, _ := b.fs.ReadDir(dir)
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			name := e.Name()
			if i := strings.IndexByte(name, '.'); i >= 0 {
				name = name[:i] + name[strings.LastIndexByte(name, '-'):]
			}
			all = append(all, dir+"/"+name)
		}
	}
	return strings.Join(all, " ")
}

// What the directories may look like after a crash of this broker or of Kafka, and
// what the next start makes of it.
func TestBegin(t *testing.T) {
	future := func(topic string) string { return topic + "-0.0123456789abcdef0123456789abcdef-future" }
	for name, c := range map[string]struct {
		change   func(b *dirsRig)
		assigned string // where the metadata log has a-0
		unknown  bool   // the metadata log has no topic "a"
		list     string // after the start, once the log was opened
		in       string // where the log is then, "" if not opened
		says     string // the error
	}{
		"as it was":        {assigned: "one", list: "one/a-0", in: "one"},
		"not recorded yet": {list: "one/a-0", in: "one"},
		"two of them, the second is recorded": {
			change: func(b *dirsRig) { b.copyDir("one/a-0", "two/a-0") }, assigned: "two",
			list: "one/a-0-stray two/a-0", in: "two",
		},
		"two of them, the first is recorded": {
			change: func(b *dirsRig) { b.copyDir("one/a-0", "two/a-0") }, assigned: "one",
			list: "one/a-0 two/a-0-stray", in: "one",
		},
		"two of them, neither is recorded": {
			change: func(b *dirsRig) { b.copyDir("one/a-0", "two/a-0") }, assigned: "three",
			says: "a-0 is in both one and two",
		},
		"only the copy, which is recorded": {
			change: func(b *dirsRig) { b.rename("one/a-0", "two/"+future("a")) }, assigned: "two",
			list: "two/a-0", in: "two",
		},
		"only the copy, which is not recorded": {
			change: func(b *dirsRig) { b.rename("one/a-0", "two/"+future("a")) }, assigned: "one",
			list: "two/a-0-stray", in: "one",
		},
		"a copy of a topic that is gone": {
			change: func(b *dirsRig) { b.copyDir("one/a-0", "two/"+future("a")) }, unknown: true,
			list: "one/a-0 two/a-0-stray",
		},
		"a copy without an id": {
			change: func(b *dirsRig) { _ = b.fs.MkdirAll("two/"+future("a"), 0o700) }, assigned: "one",
			list: "one/a-0 two/a-0-stray", in: "one",
		},
		"a complete copy beside the log: the move goes on": {
			change: func(b *dirsRig) { b.copyDir("one/a-0", "two/"+future("a")) }, assigned: "one",
			list: "one/a-0-delete two/a-0", in: "two",
		},
		"a copy that is cut elsewhere, as Kafka's: the move begins again": {
			change: func(b *dirsRig) {
				b.copyDir("one/a-0", "two/"+future("a"))
				b.rename("two/"+future("a")+"/00000000000000000000.log", "two/"+future("a")+"/00000000000000000003.log")
			}, assigned: "two",
			list: "one/a-0-delete two/a-0 two/a-0-delete", in: "two",
		},
		"a copy in the log's own directory": {
			change: func(b *dirsRig) { b.copyDir("one/a-0", "one/"+future("a")) }, assigned: "one",
			list: "one/a-0", in: "one",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newDirsRig(t, vfs.NewMem())
				b.names = []string{"one", "two", "three"}
				b.open()
				b.fill("a", 0, 20)
				id := b.ledger("a").id
				if err := b.d.Close(); err != nil {
					t.Fatal(err)
				}
				if c.change != nil {
					c.change(b)
				}
				b.assigned = map[partitionKey][16]byte{}
				if c.assigned != "" {
					b.assigned[partitionKey{id, 0}] = dirID(c.assigned)
				}
				b.unknown = c.unknown
				d, err := b.tryOpen()
				if c.says != "" {
					if err == nil || !strings.Contains(err.Error(), c.says) {
						t.Errorf("error %v, want one about %q", err, c.says)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				b.d = d
				if c.in != "" {
					b.where("a")
					time.Sleep(time.Second)
					l, err := b.log("a")
					if err != nil || l.Directory() != c.in {
						t.Fatalf("the log is in %s, want %s; %v", l.Directory(), c.in, err)
					}
					if name != "only the copy, which is not recorded" {
						if err := b.ledgers["a"].check(l, true); err != nil {
							t.Error(err)
						}
					}
				}
				if got := b.list(); got != c.list {
					t.Errorf("there is %s\nwant     %s", got, c.list)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func (b *dirsRig) rename(from, to string) {
	b.t.Helper()
	if err := b.fs.Rename(from, to); err != nil {
		b.t.Fatal(err)
	}
}

// A directory that cannot be read at the start takes what is recorded to be in it out
// of service, and an old log of it elsewhere is not taken for it.
func TestDirectoryAwayAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewFault(vfs.NewMem())
		b := newDirsRig(t, disk)
		b.open()
		for topic, want := range map[string]string{"a": "one", "b": "two", "c": "one"} {
			b.assigned[partitionKey{b.ledger(topic).id, 0}] = dirID(want)
			b.fill(topic, 0, 5)
			if dir, _ := b.where(topic); dir != want {
				t.Fatalf("%s is in %s", topic, dir)
			}
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
		b.copyDir("two/b-0", "one/b-0")
		disk.SetRules(vfs.Rule{Path: "two/*", Err: syscall.EIO, Times: -1}, vfs.Rule{Path: "two", Err: syscall.EIO, Times: -1})
		b.open()
		got := map[string]bool{}
		for _, topic := range []string{"a", "b", "c", "new"} {
			l, err := b.log(topic)
			got[topic] = err == nil && l.Directory() == "one"
		}
		if want := map[string]bool{"a": true, "b": false, "c": true, "new": true}; !maps.Equal(got, want) {
			t.Errorf("in service: %v, want %v", got, want)
		}
		if r := b.d.Directories()[1]; r.Err() == nil || b.d.Clean() {
			t.Errorf("directory two: %v, clean %v", r.Err(), b.d.Clean())
		}
		l, _ := b.log("a")
		if err := b.d.Move(l, b.d.Directories()[1]); err == nil {
			t.Error("a log moves to a directory that is away")
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
		disk.SetRules(vfs.Rule{Path: "one/*", Err: syscall.EIO, Times: -1})
		if _, err := b.tryOpen(); err == nil {
			t.Error("it starts without the directory of the metadata log")
		}
		disk.SetRules()
		if err := disk.RemoveAll("one/b-0"); err != nil {
			t.Fatal(err)
		}
		b.open()
		if dir, _ := b.where("b"); dir != "two" {
			t.Errorf("b is in %s", dir)
		}
		if _, err := b.append("b", data(batch.Plain(), time.Now().UnixMilli(), 9, 1), AppendOptions{Durable: true}); err != nil {
			t.Error(err)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Names of copies, as Kafka writes them.
func TestFutureNames(t *testing.T) {
	for name, want := range map[string]place{
		"a-0.0123456789abcdef0123456789abcdef-future":      {"a", 0},
		"a.b-c-12.0123456789abcdef0123456789abcdef-future": {"a.b-c", 12},
	} {
		if got, ok := futureOf(name); !ok || got != want {
			t.Errorf("%s: %v %v", name, got, ok)
		}
		if _, ok := placeOf(name); ok {
			t.Errorf("%s is taken for a partition", name)
		}
	}
	for _, name := range []string{"a-0", "a-0-future", "a-0.0123-future", "a.0123456789abcdef0123456789abcdef-future", "a-0.0123456789abcdef0123456789abcdeg-future", "a-0.0123456789abcdef0123456789abcdef-delete", ""} {
		if p, ok := futureOf(name); ok {
			t.Errorf("%s is taken for a copy of %v", name, p)
		}
	}
	if !slices.Equal([]int{wholeBatches(nil), wholeBatches(make([]byte, 100))}, []int{0, 0}) {
		t.Error("zeros are no batches")
	}
}
