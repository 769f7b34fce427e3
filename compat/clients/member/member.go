// Package member is the loop of a driver of group members: commands come in as
// JSON lines, what happens to the members goes out as JSON lines. compat's
// group_member.go has the other end and says what each means.
package member

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Command is one line of standard input.
type Command struct {
	Op        string   `json:"op"` // join, pause, resume, seek, commit, commit-async, close
	Member    string   `json:"member"`
	Group     string   `json:"group"`
	Topic     string   `json:"topic"`
	Protocol  string   `json:"protocol"`  // classic or consumer
	Assignors []string `json:"assignors"` // by Kafka's names, empty = the default
	Regex     bool     `json:"regex"`     // subscribe by a regular expression, consumer only
	Instance  string   `json:"instance"`  // of a static member, empty = none
	SessionMs int      `json:"session"`   // session timeout, classic only
	Quiet     bool     `json:"quiet"`     // tell only the first record of the member
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
}

// Event is one line of standard output.
type Event struct {
	At         int64           `json:"at"` // microseconds since 1970, before the thing had its effect
	Member     string          `json:"member"`
	Event      string          `json:"event"`
	Partitions []int32         `json:"partitions,omitempty"`
	Partition  int32           `json:"partition"`
	Offset     int64           `json:"offset"`
	Key        string          `json:"key,omitempty"`
	Offsets    map[int32]int64 `json:"offsets,omitempty"`
	Text       string          `json:"text,omitempty"`
}

// Out writes the events of one member.
type Out struct {
	member string
	quiet  bool
	told   bool // a record
	mu     *sync.Mutex
	w      *bufio.Writer
}

func (o *Out) emit(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e.At, e.Member = time.Now().UnixMicro(), o.member
	line, err := json.Marshal(e)
	if err == nil {
		_, err = o.w.Write(append(line, '\n'))
	}
	if err == nil {
		err = o.w.Flush()
	}
	if err != nil { // the reader is gone
		os.Exit(1)
	}
}

// Partitions tells assigned, revoked, lost, paused or resumed.
func (o *Out) Partitions(event string, partitions []int32) {
	o.emit(Event{Event: event, Partitions: partitions})
}

// Record tells a record that the member got.
func (o *Out) Record(partition int32, offset int64, key []byte) {
	if o.quiet && o.told {
		return
	}
	o.told = true
	o.emit(Event{Event: "record", Partition: partition, Offset: offset, Key: string(key)})
}

// Committed tells the answer to a commit.
func (o *Out) Committed(offsets map[int32]int64, err error) {
	e := Event{Event: "committed", Offsets: offsets}
	if err != nil {
		e.Event, e.Text = "not-committed", err.Error()
	}
	o.emit(e)
}

// Sought tells that the position of a partition was set.
func (o *Out) Sought(partition int32, offset int64) {
	o.emit(Event{Event: "sought", Partition: partition, Offset: offset})
}

// Say tells an event without facts: closed, or unable for what the client cannot do.
func (o *Out) Say(event string) { o.emit(Event{Event: event}) }

// Error tells what went wrong.
func (o *Out) Error(err error) { o.emit(Event{Event: "error", Text: err.Error()}) }

// Member is a member of a group, running. Do carries out a command other than
// join and close, Close leaves the group.
type Member interface {
	Do(c Command) error
	Close() error
}

// Serve carries out commands until standard input ends, and then closes the
// members that are left. Commands to different members run side by side.
func Serve(join func(c Command, out *Out) (Member, error)) error {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		w    = bufio.NewWriterSize(os.Stdout, 1<<16)
		in   = bufio.NewReaderSize(os.Stdin, 1<<16)
		each = map[string]chan Command{}
	)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		var c Command
		if err == nil {
			err = json.Unmarshal(line, &c)
		}
		if err != nil {
			return err
		}
		commands := each[c.Member]
		if commands == nil {
			commands = make(chan Command, 16)
			each[c.Member] = commands
			out := &Out{member: c.Member, mu: &mu, w: w}
			wg.Go(func() { live(commands, out, join) })
		}
		commands <- c
	}
	for _, name := range slices.Sorted(maps.Keys(each)) {
		close(each[name])
	}
	wg.Wait()
	return nil
}

// live is the life of a member's name: it may join again after it closed.
func live(commands <-chan Command, out *Out, join func(Command, *Out) (Member, error)) {
	var m Member
	leave := func() {
		if m == nil {
			return
		}
		if err := m.Close(); err != nil {
			out.Error(err)
		}
		m = nil
		out.Say("closed")
	}
	for c := range commands {
		var err error
		switch {
		case c.Op == "join":
			out.quiet, out.told = c.Quiet, false
			m, err = join(c, out)
		case m == nil:
			err = fmt.Errorf("%s has not joined", c.Member)
		case c.Op == "close":
			leave()
		default:
			err = m.Do(c)
		}
		if err != nil {
			out.Error(err)
		}
	}
	leave()
}
