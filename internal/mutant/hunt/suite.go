package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rotpeter/rotpeter/internal/mutant"
)

// wholeBroker is the room whose tests run all the others together.
const wholeBroker = "broker"

// silence is how long tests may say nothing: what hangs because of a bug counts as caught.
const silence = time.Minute

// suite is the tests of some rooms, built with the seeded bugs in them.
type suite struct {
	dir     string // of the test binaries
	crashes string
}

// newSuite builds the tests of the rooms of the bugs.
func newSuite(ctx context.Context, bugs []mutant.Bug, crashes string) (*suite, error) {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return nil, err
	}
	s := &suite{dir, crashes}
	rooms := []string{wholeBroker}
	for _, b := range bugs {
		rooms = append(rooms, b.Room)
	}
	slices.Sort(rooms)
	for _, room := range slices.Compact(rooms) {
		build := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "mutants", "-o", s.binary(room), "./"+room)
		if out, err := build.CombinedOutput(); err != nil {
			s.close()
			return nil, fmt.Errorf("build the tests of %s: %w\n%s", room, err, out)
		}
	}
	return s, nil
}

func (s *suite) close() { _ = os.RemoveAll(s.dir) }

func (s *suite) binary(room string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(room, "/", "-")+".test")
}

// catch is who saw a bug. No test: nobody.
type catch struct {
	room, test string
	took       time.Duration // since the first test began
}

// hunt runs tests with a bug until one fails, and that one again without it. Error: a test fails without the bug.
func (s *suite) hunt(ctx context.Context, b mutant.Bug) (catch, error) {
	rooms := []string{b.Room}
	if b.Room != wholeBroker {
		rooms = append(rooms, wholeBroker)
	}
	began := time.Now()
	c := catch{}
	for _, few := range []bool{true, false} {
		for _, room := range rooms {
			which := "-test.skip=" + s.crashes
			if !few {
				which = "-test.run=" + s.crashes
			}
			test, err := s.run(ctx, room, b.Name, "-test.short", which)
			c.took = time.Since(began)
			if err != nil {
				return c, err
			}
			if test == "" {
				continue
			}
			again, err := s.run(ctx, room, "", "-test.short", "-test.run=^"+test+"$")
			if err == nil && again != "" {
				err = fmt.Errorf("%s in %s fails without the bug, too", test, room)
			}
			c.room, c.test = room, test
			return c, err
		}
	}
	return c, nil
}

// run runs tests of a room with a bug ("" is none) until the first fails, and answers which one; "" if all pass.
func (s *suite) run(ctx context.Context, room string, bug mutant.Name, args ...string) (failed string, err error) {
	cmd := exec.CommandContext(ctx, s.binary(room), append(args, "-test.v", "-test.failfast")...)
	cmd.Dir = room
	cmd.Env = append(os.Environ(), mutant.Variable+"="+string(bug))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	hung := time.AfterFunc(silence, func() { _ = cmd.Cancel() })
	defer hung.Stop()
	last := watch(out, func() { hung.Reset(silence) }, func(test string) {
		failed = test
		_ = cmd.Cancel()
	})
	err = cmd.Wait()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case failed != "":
		return failed, nil
	case errors.As(err, &ended): // it panicked, or hung
		return last, nil
	}
	return "", err
}

// watch reads what tests say, tells of each line and of the first test that fails, and answers the one that ran last.
func watch(out io.Reader, alive func(), fail func(test string)) (last string) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	told := false
	for lines.Scan() {
		alive()
		line := strings.TrimSpace(lines.Text())
		if test, ok := name(line, "=== RUN"); ok {
			last = test
		}
		if test, ok := name(line, "--- FAIL:"); ok && !told {
			told = true
			fail(test)
		}
	}
	_, _ = io.Copy(io.Discard, out)
	return last
}

// name is the test that a line of a kind speaks of, without its parts.
func name(line, kind string) (string, bool) {
	rest, ok := strings.CutPrefix(line, kind)
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return "", false
	}
	test, _, _ := strings.Cut(fields[0], "/")
	return test, true
}
