package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rotpeter/rotpeter/bench/raw"
)

// startWithin is how long a broker may take until it serves.
const startWithin = time.Minute

// target is one kind of broker to measure.
type target struct {
	name string
	// start starts it on an empty data directory. durable asks for acks=all from stable storage, where the broker has both.
	start func(t *tools, dir string, durable bool) (*broker, error)
	jvm   bool // it gets faster while it runs
}

// broker is one that runs. cmd is nil for one elsewhere.
type broker struct {
	*target
	addr string
	http string // where it has profiles, if asked for
	cmd  *exec.Cmd
	dir  string
}

// tools is what targets need.
type tools struct {
	bin     string // the built broker
	profile bool   // have profiles of the broker
	kfake   string // the program, built at the first need
	jars    string // Kafka's class path, installed at the first need
	scratch string // folder for what is built
	log     io.Writer
}

// targets answers those that are named.
func targets(names []string) ([]*target, error) {
	var all []*target
	for _, name := range names {
		switch name {
		case "rotpeter":
			all = append(all, &target{name: name, start: startRotpeter})
		case "null":
			all = append(all, &target{name: name, start: startNull})
		case "kfake":
			all = append(all, &target{name: name, start: startKfake})
		case "kafka":
			all = append(all, &target{name: name, start: startKafka, jvm: true})
		default:
			if _, _, err := net.SplitHostPort(name); err != nil {
				return nil, fmt.Errorf("-targets %s: want rotpeter, kafka, kfake, null or HOST:PORT", name)
			}
			all = append(all, &target{name: name, start: func(*tools, string, bool) (*broker, error) { return &broker{addr: name}, nil }})
		}
	}
	return all, nil
}

func (b *broker) pid() int {
	if b.cmd == nil {
		return 0
	}
	return b.cmd.Process.Pid
}

// stop kills the broker and removes its data.
func (b *broker) stop() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// ready starts a program and waits for its first line, in which a word says where it serves.
func ready(cmd *exec.Cmd, prefix string) (*broker, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	timer := time.AfterFunc(startWithin, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	timer.Stop()
	if err != nil {
		return nil, fmt.Errorf("%s ended before it was ready: %w", filepath.Base(cmd.Path), errors.Join(err, cmd.Wait()))
	}
	go io.Copy(io.Discard, out)
	b := &broker{cmd: cmd}
	for word := range strings.FieldsSeq(line) {
		if http, ok := strings.CutPrefix(word, "http="); ok {
			b.http = http
			continue
		}
		if addr, ok := strings.CutPrefix(word, prefix); ok && strings.Contains(addr, ":") {
			b.addr = addr
		}
	}
	if b.addr != "" {
		return b, nil
	}
	return nil, errors.Join(fmt.Errorf("%s printed %q", filepath.Base(cmd.Path), line), cmd.Process.Kill(), cmd.Wait())
}

func startRotpeter(t *tools, dir string, durable bool) (*broker, error) {
	acks := "cache"
	if durable {
		acks = "disk"
	}
	cmd := exec.Command(t.bin, "--data", dir, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", "rotpeter.acks.all="+acks)
	if t.profile {
		cmd.Args = append(cmd.Args, "--set", "rotpeter.http.profiles=true")
	}
	cmd.Stderr = t.log
	b, err := ready(cmd, "kafka=")
	if err == nil && !t.profile {
		b.http = ""
	}
	return b, err
}

// startNull starts this program again as the null broker.
func startNull(t *tools, dir string, _ bool) (*broker, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, "-serve-null", dir)
	cmd.Stderr = t.log
	return ready(cmd, "")
}

func startKfake(t *tools, _ string, _ bool) (*broker, error) {
	if t.kfake == "" {
		t.kfake = filepath.Join(t.scratch, "kfake")
		build := exec.Command("go", "build", "-o", t.kfake, ".")
		build.Dir = filepath.Join("bench", "kfake")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build kfake: %w\n%s", err, out)
		}
	}
	cmd := exec.Command(t.kfake, "-listen", "127.0.0.1:0")
	cmd.Stderr = t.log
	return ready(cmd, "")
}

// serving waits until a broker answers.
func serving(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for {
		_, err := raw.Ask(ctx, addr, raw.Offsets("none", 1))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer from %s within %v: %w", addr, startWithin, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
