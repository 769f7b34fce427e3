package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// brokerSettings are given to both brokers, so that every case can be provoked
// in little time: full groups, sessions that end soon.
var brokerSettings = []string{
	"node.id=1",
	"offsets.topic.replication.factor=1",
	"group.initial.rebalance.delay.ms=0",
	"group.max.size=3",
	"group.min.session.timeout.ms=100",
}

// process is our binary while it runs.
type process struct {
	cmd  *exec.Cmd
	addr string
}

// startWithin is how long the binary may take until it serves.
const startWithin = 20 * time.Second

// startBroker starts the binary on free ports and waits until it serves.
func startBroker(bin, data string, log io.Writer) (*process, error) {
	args := []string{"--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}
	for _, s := range brokerSettings {
		args = append(args, "--set", s)
	}
	cmd := exec.Command(bin, args...)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	timer := time.AfterFunc(startWithin, func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	timer.Stop()
	if err != nil {
		return nil, fmt.Errorf("%s ended before it was ready: %w", bin, errors.Join(err, cmd.Wait()))
	}
	for _, w := range strings.Fields(line) {
		if addr, ok := strings.CutPrefix(w, "kafka="); ok {
			return &process{cmd: cmd, addr: addr}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s printed %q", bin, line), cmd.Process.Kill(), cmd.Wait())
}

// stop ends the binary and reports how it ended if not well.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, p.cmd.Wait())
	}
	timer := time.AfterFunc(startWithin, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	return p.cmd.Wait()
}
