package main

import (
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// process is a program that runs until it is killed, is told to end, or ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended
	err  error         // how it ended, after done
}

// stopWithin is how long a program may take to end when it is told to.
const stopWithin = 30 * time.Second

func startProcess(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// kill ends it with SIGKILL, and does nothing if it has ended.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// ends waits until it has ended by itself, and kills it if that takes too long.
func (p *process) ends() error {
	timer := time.AfterFunc(stopWithin, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.done
	return p.err
}

// terminate ends it with SIGTERM; a JVM exits with the code 143 then.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := p.ends()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 143 {
		return nil
	}
	return err
}
