package group

import (
	"bytes"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/script"
)

// golden rewrites the expectations of testdata/*.txt with what happened.
var golden = flag.Bool("golden", false, "rewrite the expectations in testdata")

// The scripts: blocks of commands, a line "----", what they gave, a blank line.
// Commands are a name and key=value arguments; see command. What they give:
//
//	record  what was remembered
//	reply   to which token, which response
//	next    when the shard wants a tick, from now
//
// After each command the invariants hold and a shard loaded from the journal has
// the same hard state.
func TestScripts(t *testing.T) { script.Files(t, *golden, runScript) }

// runScript returns the script with its expectations made anew.
func runScript(t *testing.T, text string) string {
	w := newWorld(t, DefaultOptions(nil, nil))
	return script.Blocks(text, func(commands []string) string {
		w.out = &bytes.Buffer{}
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
	ids     int
	tokens  int
	waiting map[string]bool // tokens not answered yet
	out     *bytes.Buffer
	replies map[string]any // by token
	sparse  bool           // compare with a loaded shard now and then only
	checks  int
	cluster *cluster
	errands []ResolveRegexes
}

func newWorld(t testing.TB, o Options) *world {
	w := &world{t: t, now: time.UnixMilli(1_700_000_000_000), out: &bytes.Buffer{}, replies: map[string]any{}, cluster: newCluster()}
	w.start(o)
	return w
}

// start makes a new, empty shard.
func (w *world) start(o Options) {
	o.NewMemberID = func(clientID string) string {
		w.ids++
		return fmt.Sprintf("%s-%d", clientID, w.ids)
	}
	o.NewConsumerMemberID = func() string {
		w.ids++
		return fmt.Sprintf("uuid-%d", w.ids)
	}
	w.o = o
	w.journal = nil
	w.load()
}

// load replaces the shard by one loaded from the journal, as after a crash.
func (w *world) load() {
	w.waiting, w.errands = map[string]bool{}, nil
	w.o.Cluster = w.cluster
	w.shard = replay(w.o, w.journal)
	w.take(w.shard.Loaded(w.now))
}

// replay makes a shard of records.
func replay(o Options, records []coordinator.Record) *Shard {
	s := New(o)
	for _, r := range records {
		s.Apply(r)
	}
	return s
}

// send hands an event to the shard.
func (w *world) send(token string, body any) {
	w.waiting[token] = true
	w.take(w.shard.Handle(w.now, coordinator.Event{Token: token, Body: body}))
}

// ask hands an event to the shard and returns the reply it must give at once.
func (w *world) ask(body any) any {
	w.t.Helper()
	token := w.token()
	w.send(token, body)
	r, ok := w.replies[token]
	if !ok {
		w.t.Fatalf("no reply to %T", body)
	}
	return r
}

// token names the next request.
func (w *world) token() string {
	w.tokens++
	return fmt.Sprintf("t%d", w.tokens)
}

// take does with a result what the shell does, and writes it down.
func (w *world) take(r coordinator.Result) {
	for _, rec := range r.Records {
		fmt.Fprintf(w.out, "record  %s\n", showRecord(rec))
		w.journal = append(w.journal, rec)
		w.shard.Apply(rec)
	}
	for _, reply := range r.Replies {
		token, _ := reply.To.(string)
		if !w.waiting[token] {
			w.t.Errorf("token %q was answered but does not wait", token)
		}
		delete(w.waiting, token)
		w.replies[token] = reply.Body
		fmt.Fprintf(w.out, "reply   %s %s\n", token, showReply(reply.Body))
	}
	for _, e := range r.Errands {
		errand := e.(ResolveRegexes)
		fmt.Fprintf(w.out, "errand  resolve %s %v\n", errand.Group, errand.Regexes)
		w.errands = append(w.errands, errand)
	}
	w.check()
}

// advance lets time pass, with a tick at each deadline on the way.
func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for {
		at, ok := w.shard.Deadline()
		if !ok || at.After(end) {
			break
		}
		w.now = latest(w.now, at)
		before := w.out.Len()
		w.take(w.shard.Handle(w.now, coordinator.Event{Body: coordinator.Tick{}}))
		if w.out.Len() > before && at.Before(end) {
			fmt.Fprintf(w.out, "        %s before\n", end.Sub(w.now))
		}
		if again, ok := w.shard.Deadline(); ok && !again.After(w.now) {
			w.t.Fatalf("after a tick at %v the deadline is %v", w.now, again)
		}
	}
	w.now = end
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// next tells the deadline from now.
func (w *world) next() string {
	at, ok := w.shard.Deadline()
	if !ok {
		return "never"
	}
	return at.Sub(w.now).String()
}
