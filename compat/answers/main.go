package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

func main() {
	failed, err := answers(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "answers:", err)
	}
	if err != nil || failed > 0 {
		os.Exit(1)
	}
}

// answers is main without the process around it; it tells how many scripts failed.
func answers(args []string, out, log io.Writer) (failed int, err error) {
	set := flag.NewFlagSet("answers", flag.ContinueOnError)
	bin := set.String("bin", "bin/rotpeter", "our binary, started on free ports")
	kafka := set.String("kafka", "", "address of a running Apache Kafka to play against instead")
	golden := set.Bool("golden", false, "write the answers into the scripts (with -kafka)")
	only := set.String("run", "", "play only the scripts whose file name matches this regular expression")
	dir := set.String("dir", filepath.Join("testdata", "answers"), "folder of the scripts")
	if err := set.Parse(args); err != nil {
		return 0, err
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return 0, err
	}
	if *golden && *kafka == "" {
		return 0, fmt.Errorf("-golden needs -kafka: the answers are Kafka's")
	}
	addr := *kafka
	if addr == "" {
		data, err := os.MkdirTemp("", "answers-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(data)
		p, err := startBroker(*bin, data, log)
		if err != nil {
			return 0, err
		}
		defer func() {
			if e := p.stop(); e != nil && err == nil {
				err = fmt.Errorf("the broker did not end well: %w", e)
			}
		}()
		addr = p.addr
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, err
	}
	return playAll(&player{addr: addr, port: int32(number), kafka: *kafka != ""}, *dir, match, *golden, out)
}

// playAll plays the scripts one after the other and prints a line for each.
func playAll(p *player, dir string, match *regexp.Regexp, golden bool, out io.Writer) (failed int, err error) {
	if err := p.warm(); err != nil {
		return 0, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return 0, err
	}
	passed := 0
	for _, path := range paths {
		if !match.MatchString(filepath.Base(path)) {
			continue
		}
		s, err := readScript(path)
		if err != nil {
			return failed, err
		}
		start := time.Now()
		got, err := p.play(s)
		took := time.Since(start).Round(time.Millisecond)
		if err != nil {
			fmt.Fprintf(out, "failed  %s: %v\n", s.name, err)
			failed++
			continue
		}
		if golden {
			for b, text := range got {
				b.answer = text
			}
			if err := os.WriteFile(path, []byte(s.text()), 0o644); err != nil {
				return failed, err
			}
			fmt.Fprintf(out, "written %s (%d answers, %v)\n", s.name, len(got), took)
			passed++
			continue
		}
		if wrong := compare(s, got); wrong != "" {
			fmt.Fprintf(out, "failed  %s (%d answers, %v)\n%s", s.name, len(got), took, wrong)
			failed++
			continue
		}
		fmt.Fprintf(out, "passed  %s (%d answers, %v)\n", s.name, len(got), took)
		passed++
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", passed, failed)
	if passed+failed == 0 {
		return 0, fmt.Errorf("no script in %s", dir)
	}
	return failed, nil
}

// compare shows every answer that differs from the expected one, "" for none.
func compare(s *script, got map[*block]string) string {
	var all string
	for _, b := range s.blocks {
		text, ok := got[b]
		if !ok || text == b.answer {
			continue
		}
		all += fmt.Sprintf("  %s:%d: %s\n", s.name, b.line+len(b.comments), b.head)
		if b.body != "" {
			all += "  " + b.body + "\n"
		}
		all += diff(b.answer, text)
	}
	return all
}
