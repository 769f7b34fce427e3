package main

import (
	"bufio"
	"errors"
	"io"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
)

// txnProcess is a process of a txnClient in the mode transform.
type txnProcess struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	holding chan struct{} // closed when it holds a transaction open
	done    chan struct{} // closed when it ended
	err     error         // how it ended, after done
}

// txnTally counts what the processes of a client say.
type txnTally struct {
	commits, aborts atomic.Int64
}

func startTransform(cmd *exec.Cmd, log io.Writer, tally *txnTally) (*txnProcess, error) {
	cmd.Stderr = log
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &txnProcess{cmd: cmd, in: in, holding: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch word, _, _ := strings.Cut(lines.Text(), " "); word {
			case "commit":
				tally.commits.Add(1)
			case "abort":
				tally.aborts.Add(1)
			case "holding":
				close(p.holding)
			}
		}
		p.err = cmd.Wait()
	}()
	return p, nil
}

// kill ends the process with SIGKILL.
func (p *txnProcess) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop has the process end after the transaction that it is in.
func (p *txnProcess) stop() error {
	p.in.Close()
	timer := time.AfterFunc(20*time.Second, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.done
	return p.err
}
