package txn

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/script"
)

// golden rewrites the expectations of testdata/*.txt with what happened.
var golden = flag.Bool("golden", false, "rewrite the expectations in testdata")

// The scripts: blocks of commands, a line "----", what they gave, a blank line. After each command a shard loaded from
// the journal has the same hard state.
func TestScripts(t *testing.T) { script.Files(t, *golden, runScript) }

func runScript(t *testing.T, text string) string {
	w := newWorld(t, DefaultOptions())
	return script.Blocks(text, func(commands []string) string {
		w.out.Reset()
		for _, line := range commands {
			w.command(line)
		}
		return fmt.Sprintf("%snext    %s\n", w.out.String(), w.next())
	})
}

// world is a shard with its journal and a clock.
type world struct {
	t       testing.TB
	o       Options
	shard   *Shard
	journal []coordinator.Record
	now     time.Time
	ids     int64
	out     bytes.Buffer
	last    any // reply
	errands []WriteMarkers
	late    []WriteMarkers // errands of before the last load
}

func newWorld(t testing.TB, o Options) *world {
	w := &world{t: t, o: o, now: time.UnixMilli(1_700_000_000_000), ids: 100}
	w.load()
	return w
}

func replay(o Options, records []coordinator.Record) *Shard {
	s := New(o)
	for _, r := range records {
		s.Apply(r)
	}
	return s
}

func (w *world) load() {
	w.late, w.errands = w.errands, nil
	w.shard = replay(w.o, w.journal)
	w.take(w.shard.Loaded(w.now))
}

func (w *world) send(body any) any {
	w.last = nil
	w.take(w.shard.Handle(w.now, coordinator.Event{Token: "t", Body: body}))
	return w.last
}

func (w *world) take(r coordinator.Result) {
	for _, rec := range r.Records {
		fmt.Fprintf(&w.out, "record  %s\n", showRecord(rec))
		w.journal = append(w.journal, rec)
		w.shard.Apply(rec)
	}
	for _, reply := range r.Replies {
		w.last = reply.Body
		fmt.Fprintf(&w.out, "reply   %s\n", showReply(reply.Body))
	}
	for _, e := range r.Errands {
		m := e.(WriteMarkers)
		end := "abort"
		if m.Commit {
			end = "commit"
		}
		fmt.Fprintf(&w.out, "errand  %s %s %d/%d %v v%d\n", end, m.TransactionalID, m.ID, m.Epoch, m.Partitions, m.Version)
		w.errands = append(w.errands, m)
	}
	w.check()
}

// check fails the test unless a shard loaded from the journal equals this one.
func (w *world) check() {
	w.t.Helper()
	if live, again := hardState(w.shard, w.journal), hardState(replay(w.o, w.journal), w.journal); live != again {
		w.t.Fatalf("live and loaded state differ\nlive:\n%s\nloaded:\n%s", live, again)
	}
	for id := range w.shard.ongoing {
		if w.shard.all[id].state != Ongoing {
			w.t.Fatalf("%s is not ongoing", id)
		}
	}
}

// hardState shows what a load of the journal must give again. Records of level 0 do not say all.
func hardState(s *Shard, journal []coordinator.Record) string {
	var lines []string
	said := map[string]bool{}
	for _, r := range journal {
		id, _, _ := readKey(r.Key)
		said[id] = r.Value != nil && !plain(r.Value)
	}
	for id, x := range s.all {
		h := *x
		h.previousEpoch, h.heard, h.partitions = 0, NoConn, nil
		if !said[id] {
			h.previousID, h.nextID, h.version = 0, 0, 0
		}
		lines = append(lines, fmt.Sprintf("%s %+v %v", id, h, x.list()))
	}
	lines = append(lines, fmt.Sprint("ongoing ", slices.Sorted(maps.Keys(s.ongoing))))
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (w *world) next() string {
	at, ok := w.shard.Deadline()
	if !ok {
		return "never"
	}
	return at.Sub(w.now).String()
}

// advance lets time pass, with a tick at each deadline on the way.
func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for {
		at, ok := w.shard.Deadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		w.take(w.shard.Handle(w.now, coordinator.Event{Body: coordinator.Tick{}}))
		if again, ok := w.shard.Deadline(); ok && !again.After(w.now) {
			w.t.Fatalf("after a tick at %v the deadline is %v", w.now, again)
		}
	}
	w.now = end
}

// args are the key=value arguments of a command.
type args map[string]string

func (a args) str(key, otherwise string) string { return script.Text(a, key, otherwise) }

func (a args) int(key string, otherwise int64) int64 { return script.Int(a, key, otherwise) }

func (a args) duration(key string, otherwise time.Duration) time.Duration {
	return script.Duration(a, key, otherwise)
}

// producer reads producer=id/epoch.
func (a args) producer() Producer {
	id, epoch, _ := strings.Cut(a.str("producer", "101/0"), "/")
	n, _ := strconv.ParseInt(id, 10, 64)
	e, _ := strconv.ParseInt(epoch, 10, 16)
	return Producer{n, int16(e)}
}

// partitions reads a/0,b/1.
func (a args) partitions() []Partition {
	var all []Partition
	for f := range strings.SplitSeq(a.str("partitions", "a/0"), ",") {
		topic, index, _ := strings.Cut(f, "/")
		n, _ := strconv.Atoi(index)
		all = append(all, Partition{topic, int32(n)})
	}
	return all
}

func (w *world) command(line string) {
	name, given, _ := script.Command(line)
	a := args(given)
	id, version := a.str("id", "x"), int16(a.int("version", int64(w.shard.o.Level)))
	conn := Conn(a.int("conn", 0))
	switch name {
	case "options":
		w.o.Level = int16(a.int("level", 2))
		w.o.LoadedAfter = NoConn
		w.journal, w.ids = nil, 100
		w.load()
	case "level":
		w.o.Level = int16(a.int("to", 2))
		w.send(Level(w.o.Level))
	case "advance":
		w.advance(a.duration("for", 0))
	case "crash":
		w.o.LoadedAfter = Conn(a.int("conn", 0))
		w.load()
	case "init":
		e := Init{TransactionalID: id, TimeoutMillis: int32(a.duration("timeout", time.Minute).Milliseconds()), NewID: noID, Conn: conn}
		if _, ok := a["producer"]; ok {
			p := a.producer()
			e.Expected = &p
		}
		w.withID(func(newID int64) bool { e.NewID = newID; return w.send(e).(Initialized).NeedsID })
	case "add", "verify":
		w.send(Add{TransactionalID: id, Producer: a.producer(), Partitions: a.partitions(), Version: version, Verify: name == "verify", Conn: conn})
	case "commit", "abort":
		e := End{TransactionalID: id, Producer: a.producer(), Commit: name == "commit", Version: version, NewID: noID, Conn: conn}
		w.withID(func(newID int64) bool { e.NewID = newID; return w.send(e).(Ended).NeedsID })
	case "written":
		all := w.errands
		w.errands = nil
		for _, m := range all {
			w.send(m.Written())
		}
	case "late": // what an errand of before the crash says
		for _, m := range w.late {
			w.send(m.Written())
		}
	case "describe":
		w.send(Describe{id})
	case "list":
		e := List{LongerThan: a.duration("longer", -1)}
		if s := a.str("states", ""); s != "" {
			e.States = strings.Split(s, ",")
		}
		if a.int("pid", 0) > 0 {
			e.ProducerIDs = []int64{a.int("pid", 0)}
		}
		if prefix, ok := a["prefix"]; ok {
			e.Match = func(id string) bool { return strings.HasPrefix(id, prefix) }
		}
		w.send(e)
	case "epoch": // as after so many transactions
		x := *w.shard.all[id]
		x.epoch = int16(a.int("to", 0))
		r := x.record(w.o.Level)
		w.journal = append(w.journal, r)
		w.shard.Apply(r)
	default:
		panic("no such command: " + name)
	}
}

// withID asks once more with a new producer id if that is wanted.
func (w *world) withID(ask func(newID int64) (needs bool)) {
	if ask(noID) {
		w.ids++
		ask(w.ids)
	}
}

func showRecord(r coordinator.Record) string {
	id, _, _ := readKey(r.Key)
	if r.Value == nil {
		return id + " gone"
	}
	x, ok := read(id, r.Value)
	if !ok {
		return id + " that cannot be read"
	}
	s := fmt.Sprintf("%s %v %d/%d", id, x.state, x.producerID, x.epoch)
	if x.previousID != x.producerID {
		s += fmt.Sprintf(" before=%d", x.previousID)
	}
	if x.nextID != noID {
		s += fmt.Sprintf(" next=%d", x.nextID)
	}
	return s + fmt.Sprintf(" %v v%d/%d", x.list(), x.version, r.Value[1])
}

func showCode(code int16) string {
	if code == 0 {
		return ""
	}
	return fmt.Sprintf(" %d/%s", code, kerr.TypedErrorForCode(code).Message)
}

func showReply(body any) string {
	switch r := body.(type) {
	case Initialized:
		switch {
		case r.NeedsID:
			return "needs a producer id"
		case r.Late:
			return "late"
		}
		return fmt.Sprintf("Initialized %d/%d%s", r.ID, r.Epoch, showCode(r.Code))
	case Added:
		if r.Late {
			return "late"
		}
		s := "Added" + showCode(r.Code)
		for _, c := range r.Codes {
			s += fmt.Sprintf(" [%s ]", showCode(c))
		}
		return s
	case Ended:
		switch {
		case r.NeedsID:
			return "needs a producer id"
		case r.Late:
			return "late"
		}
		return fmt.Sprintf("Ended %d/%d%s", r.ID, r.Epoch, showCode(r.Code))
	case Description:
		if r.Code != 0 {
			return "Description" + showCode(r.Code)
		}
		return fmt.Sprintf("Description %v %d/%d timeout=%d %v", r.State, r.ID, r.Epoch, r.TimeoutMillis, r.Partitions)
	case []Listed:
		return fmt.Sprintf("Listed %v", r)
	}
	return fmt.Sprintf("%T %v", body, body)
}
