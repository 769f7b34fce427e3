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
	// prepare makes an empty data directory ready, and answers a broker that does not run yet.
	prepare func(t *tools, dir string, w wishes) (*broker, error)
	jvm     bool // it gets faster while it runs
}

// wishes are how a scenario wants its brokers.
type wishes struct {
	durable  bool     // acks=all from stable storage, where the broker has both
	settings []string // KEY=VALUE, of brokers that have Kafka's settings
}

// broker is one that runs. cmd is nil for one elsewhere, and for one that does not run now.
type broker struct {
	*target
	addr   string
	http   string // where it has metrics and profiles, if it has
	cmd    *exec.Cmd
	dir    string       // removed when it is stopped
	data   string       // its data directory
	launch func() error // starts the program on its data; nil if there is none
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
			all = append(all, &target{name: name, prepare: prepareRotpeter})
		case "null":
			all = append(all, &target{name: name, prepare: prepareNull})
		case "kfake":
			all = append(all, &target{name: name, prepare: prepareKfake})
		case "kafka":
			all = append(all, &target{name: name, prepare: prepareKafka, jvm: true})
		default:
			if !isAddress(name) {
				return nil, fmt.Errorf("-targets %s: want rotpeter, kafka, kfake, null or HOST:PORT", name)
			}
			all = append(all, &target{name: name, prepare: func(*tools, string, wishes) (*broker, error) { return &broker{addr: name}, nil }})
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
		b.cmd = nil
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// halt ends the program and keeps its data: with SIGTERM, or as a crash does.
func (b *broker) halt(crash bool) error {
	if b.cmd == nil {
		return nil
	}
	cmd := b.cmd
	b.cmd = nil
	signal := syscall.SIGTERM
	if crash {
		signal = syscall.SIGKILL
	}
	if err := cmd.Process.Signal(signal); err != nil {
		return err
	}
	timer := time.AfterFunc(startWithin, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // a killed program, or a JVM after SIGTERM, has no good exit code
	if !timer.Stop() {
		return fmt.Errorf("%s did not end within %v", b.name, startWithin)
	}
	return nil
}

// ready starts a program and waits for its first line, in which a word says where it serves.
func (b *broker) ready(cmd *exec.Cmd, prefix string) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(startWithin, func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	timer.Stop()
	if err != nil {
		return fmt.Errorf("%s ended before it was ready: %w", filepath.Base(cmd.Path), errors.Join(err, cmd.Wait()))
	}
	go io.Copy(io.Discard, out)
	b.addr, b.http = "", ""
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
		b.cmd = cmd
		return nil
	}
	return errors.Join(fmt.Errorf("%s printed %q", filepath.Base(cmd.Path), line), cmd.Process.Kill(), cmd.Wait())
}

// start starts the program, and waits until it serves.
func (b *broker) start() error {
	if b.launch == nil {
		return nil
	}
	if err := b.launch(); err != nil {
		return err
	}
	return serving(b.addr)
}

func prepareRotpeter(t *tools, dir string, w wishes) (*broker, error) {
	acks := "cache"
	if w.durable {
		acks = "disk"
	}
	args := []string{"--data", dir, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", "rotpeter.acks.all=" + acks}
	for _, s := range w.settings {
		args = append(args, "--set", s)
	}
	if t.profile {
		args = append(args, "--set", "rotpeter.http.profiles=true")
	}
	b := &broker{data: dir}
	b.launch = func() error {
		cmd := exec.Command(t.bin, args...)
		cmd.Stderr = t.log
		return b.ready(cmd, "kafka=")
	}
	return b, nil
}

// prepareNull has this program serve as the null broker.
func prepareNull(t *tools, dir string, _ wishes) (*broker, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &broker{data: dir}
	b.launch = func() error {
		cmd := exec.Command(exe, "-serve-null", dir)
		cmd.Stderr = t.log
		return b.ready(cmd, "")
	}
	return b, nil
}

func prepareKfake(t *tools, dir string, _ wishes) (*broker, error) {
	if t.kfake == "" {
		t.kfake = filepath.Join(t.scratch, "kfake")
		build := exec.Command("go", "build", "-o", t.kfake, ".")
		build.Dir = filepath.Join("bench", "kfake")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build kfake: %w\n%s", err, out)
		}
	}
	b := &broker{data: dir}
	b.launch = func() error {
		cmd := exec.Command(t.kfake, "-listen", "127.0.0.1:0")
		cmd.Stderr = t.log
		return b.ready(cmd, "")
	}
	return b, nil
}

// isAddress tells a broker elsewhere from those that are started here.
func isAddress(target string) bool {
	_, _, err := net.SplitHostPort(target)
	return err == nil
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
