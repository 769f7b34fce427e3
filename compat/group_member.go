package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// groupCommand tells a process of members (clients/member, and its likes in
// other languages) what a member shall do; a line of JSON. The operations:
//
//	join          be a member of a group that reads a topic, from its start where nothing is committed
//	pause, resume stop and go on with all partitions that it has
//	seek          go on with a partition at an offset
//	commit        commit the positions and wait for the answer
//	commit-async  commit the positions, the answer comes when it comes
//	close         leave; a member may join again after it
//
// A member commits the positions of partitions that it gives away, before it does.
type groupCommand struct {
	Op        string   `json:"op"`
	Member    string   `json:"member"`
	Group     string   `json:"group,omitempty"`
	Topic     string   `json:"topic,omitempty"`
	Protocol  string   `json:"protocol,omitempty"` // classic or consumer
	Assignors []string `json:"assignors,omitempty"`
	Regex     bool     `json:"regex,omitempty"`    // subscribe by a regular expression that the broker knows
	Instance  string   `json:"instance,omitempty"` // of a static member
	SessionMs int      `json:"session,omitempty"`  // of the classic protocol
	Quiet     bool     `json:"quiet,omitempty"`    // tell the first record only
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
}

// groupEvent is what happened to a member, a line of JSON. The events:
//
//	assigned                partitions are its own from now on
//	revoked, lost           they are no longer, by a call of the client that the group waits for, or after the fact
//	record                  it got a record
//	committed, not-committed  the answer to a commit of offsets
//	paused, resumed, sought the command was carried out
//	closed                  it left
//	unable                  the client has no such operation
//	error                   something else went wrong
//	killed                  its process was (told by compat)
//	may-lose                from now on sessions may end: the broker is killed, or the group
//	                        changes its protocol (told by compat, of no member)
//
// At is the time on the machine's clock in microseconds, taken so that what
// follows from an event has a later one.
type groupEvent struct {
	At         int64           `json:"at"`
	Member     string          `json:"member"`
	Event      string          `json:"event"`
	Partitions []int32         `json:"partitions,omitempty"`
	Partition  int32           `json:"partition"`
	Offset     int64           `json:"offset"`
	Key        string          `json:"key,omitempty"`
	Offsets    map[int32]int64 `json:"offsets,omitempty"`
	Text       string          `json:"text,omitempty"`
}

// groupProcess is a process with members of groups.
type groupProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when its output has ended

	mu    sync.Mutex
	sinks map[string]func(groupEvent) // by member
}

// startMembers starts a process of members.
func startMembers(log io.Writer, cmd *exec.Cmd) (*groupProcess, error) {
	cmd.Stderr = log
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &groupProcess{cmd: cmd, in: in, done: make(chan struct{}), sinks: map[string]func(groupEvent){}}
	go p.read(out, log)
	return p, nil
}

func (p *groupProcess) read(out io.Reader, log io.Writer) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e groupEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintf(log, "a process of members printed %q\n", lines.Text())
			continue
		}
		p.mu.Lock()
		sink := p.sinks[e.Member]
		p.mu.Unlock()
		if sink != nil {
			sink(e)
		}
	}
}

// send gives a command; sink gets the member's events from now on.
func (p *groupProcess) send(c groupCommand, sink func(groupEvent)) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sinks[c.Member] = sink
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s to %s: the process of members ended: %w", c.Op, c.Member, err)
	}
	return nil
}

// kill ends the process as a crash does, and tells its members' sinks when all that it said is read.
func (p *groupProcess) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.done
	p.cmd.Wait() // says that it was killed
	at := time.Now().UnixMicro()
	p.mu.Lock()
	defer p.mu.Unlock()
	for member, sink := range p.sinks {
		sink(groupEvent{At: at, Member: member, Event: "killed"})
	}
	return nil
}

// close has all members leave and the process end.
func (p *groupProcess) close() error {
	p.in.Close()
	timer := time.AfterFunc(20*time.Second, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.done
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("process of members %s: %w", p.cmd.Args[0], err)
	}
	return nil
}
