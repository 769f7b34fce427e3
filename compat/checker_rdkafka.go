package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// checkerProcess is a client in another process, that tells what it does in the lines of a history.
type checkerProcess struct {
	name, role      string
	group, protocol string // of a member
}

// checkerProcesses are the clients by librdkafka.
func checkerProcesses() []checkerProcess {
	return []checkerProcess{
		{name: "rdkafka-plain", role: "plain"},
		{name: "rdkafka-txn", role: "transactional"},
		{name: "rdkafka-classic", role: "member", group: "classic", protocol: "classic"},
		{name: "rdkafka-consumer", role: "member", group: "consumer", protocol: "consumer"},
	}
}

// process runs a client until ctx ends, and starts it again if it ends before.
func (r *checkerRound) process(ctx context.Context, python string, number int, p checkerProcess) error {
	for start := 0; ctx.Err() == nil; start++ {
		name := p.name
		if start > 0 {
			name = fmt.Sprintf("%s-%d", p.name, start)
		}
		first := checkerIDs*(number+1) + 1_000_000*start
		args := []string{filepath.Join(r.b.source, "clients", "python", "confluent_checker.py"), r.bootstrap, p.role, name, r.name,
			strconv.Itoa(checkerPartitions), strconv.FormatUint(r.seed, 10), strconv.Itoa(first)}
		if p.role == "member" {
			args = append(args, p.group, p.protocol)
		}
		if err := r.processOnce(ctx, exec.Command(python, args...)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if ctx.Err() == nil {
			r.note("%s ended by itself", name)
			pause(ctx, time.Second)
		}
	}
	return nil
}

// processOnce runs a process to its end.
func (r *checkerRound) processOnce(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Stderr = r.b.log
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var timer *time.Timer
	stop := context.AfterFunc(ctx, func() {
		in.Close()
		timer = time.AfterFunc(40*time.Second, func() { cmd.Process.Kill() })
	})
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // it ended; what is cut off is no line
		}
		r.tell(strings.TrimSuffix(line, "\n"))
	}
	err := cmd.Wait()
	if !stop() && timer != nil {
		timer.Stop()
	}
	if err != nil {
		r.note("%v", err)
	}
	return nil
}
