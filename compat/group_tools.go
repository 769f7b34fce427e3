package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const groupsCommand = "org.apache.kafka.tools.GroupsCommand"

// toolClasses are the main classes behind the names of the tools.
func toolClasses() map[string]string {
	return map[string]string{
		"kafka-consumer-groups": consumerGroups, "kafka-groups": groupsCommand, "kafka-configs": kafkaConfigs, "kafka-features": featureCommand,
	}
}

// scriptRun is a run of a tool in a script: a line of its name and arguments,
// perhaps a line "only REGEXP" that picks lines of what it prints, a line
// "----", and what it prints up to an empty line.
//
// What it prints is written so that it is the same each time: words are one
// space apart, lines are sorted, ids and ports are put by names; then come the
// first line of standard error and an exit code other than 0. Stack traces are left out.
type scriptRun struct {
	comment []string // lines that begin with # before it
	args    []string
	only    string
	want    string
}

func parseToolScript(text string) ([]scriptRun, error) {
	var runs []scriptRun
	for _, part := range strings.Split(strings.TrimSpace(text), "\n\n") {
		var r scriptRun
		head, want, found := strings.Cut(part, "\n----")
		if !found {
			return nil, fmt.Errorf("no line ---- in %q", part)
		}
		for _, line := range strings.Split(head, "\n") {
			switch rest, only := strings.CutPrefix(line, "only "); {
			case strings.HasPrefix(line, "#"):
				r.comment = append(r.comment, line)
			case only:
				r.only = rest
			case r.args == nil:
				r.args = strings.Fields(line)
			default:
				return nil, fmt.Errorf("two tools in one run: %q", part)
			}
		}
		if r.args == nil {
			return nil, fmt.Errorf("no tool in %q", part)
		}
		r.want = strings.TrimSpace(want)
		runs = append(runs, r)
	}
	return runs, nil
}

func formatToolScript(runs []scriptRun) string {
	var out strings.Builder
	for i, r := range runs {
		if i > 0 {
			out.WriteString("\n")
		}
		lines := append(slices.Clone(r.comment), strings.Join(r.args, " "))
		if r.only != "" {
			lines = append(lines, "only "+r.only)
		}
		lines = append(lines, "----")
		if r.want != "" {
			lines = append(lines, r.want)
		}
		out.WriteString(strings.Join(lines, "\n") + "\n")
	}
	return out.String()
}

// toolAnswer is what class Tools answers.
type toolAnswer struct {
	Out  string `json:"out"`
	Err  string `json:"err"`
	Code int    `json:"code"`
}

// groupTools runs scripts of tools against one broker.
type groupTools struct {
	jvm       *driver
	bootstrap string
	dir       string // of the scripts and the files that they name as $dir/NAME
}

func (g *groupTools) run(ctx context.Context, r scriptRun) (string, error) {
	class := toolClasses()[r.args[0]]
	if class == "" {
		return "", fmt.Errorf("unknown tool %q", r.args[0])
	}
	var args []string
	for _, a := range r.args[1:] {
		args = append(args, strings.ReplaceAll(a, "$dir", g.dir))
	}
	switch server := []string{"--bootstrap-server", g.bootstrap}; {
	case r.args[0] == "kafka-features": // in front of its command
		args = append(server, args...)
	case !slices.Contains(args, "--validate-regex"):
		args = append(args, server...)
	}
	var answer toolAnswer
	if err := g.jvm.call(ctx, "run", map[string]any{"class": class, "args": args}, &answer); err != nil {
		return "", err
	}
	return g.steady(answer, r.only)
}

// steady writes what a tool printed so that it is the same each time.
func (g *groupTools) steady(a toolAnswer, only string) (string, error) {
	pick, err := regexp.Compile(only)
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(g.bootstrap)
	if err != nil {
		return "", err
	}
	lines := steadyLines(a.Out, pick)
	slices.Sort(lines)
	for i, line := range steadyLines(a.Err, pick) {
		// The rest is how to use the tool, and what its catching our exit brings.
		if (i == 0 || strings.Contains(line, "Exception: ")) && line != "null" {
			lines = append(lines, "stderr: "+line)
		}
	}
	if a.Code != 0 {
		lines = append(lines, fmt.Sprintf("exit code %d", a.Code))
	}
	text := strings.NewReplacer(":"+port, ":PORT", g.dir, "$dir").Replace(strings.Join(lines, "\n"))
	return regexp.MustCompile(`\bEpoch: \d+`).ReplaceAllString(text, "Epoch: N"), nil
}

// steadyLines are the lines that pick picks, without the stack traces.
func steadyLines(text string, pick *regexp.Regexp) []string {
	ids := regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	short := regexp.MustCompile(`(^| )[A-Za-z0-9_+/-]{22}(==)?( |$)`) // 16 bytes in base64
	var lines []string
	for line := range strings.Lines(text) {
		trace := strings.HasPrefix(line, "\tat ") || strings.HasPrefix(line, "Caused by:") || strings.HasPrefix(line, "\t...")
		line = strings.Join(strings.Fields(line), " ")
		if line != "" && !trace && pick.MatchString(line) {
			lines = append(lines, short.ReplaceAllString(ids.ReplaceAllString(line, "ID"), "${1}ID${3}"))
		}
	}
	return lines
}

// groupToolChecks plays the scripts testdata/groups/*.txt. A script's name is
// the prefix of the groups and topics in it, which toolFixtures makes.
func (b *bench) groupToolChecks(ctx context.Context, ref *reference) error {
	scripts, err := filepath.Glob("testdata/groups/*.txt")
	if err != nil || len(scripts) == 0 {
		return errors.Join(err, errors.New("no scripts in testdata/groups"))
	}
	dir, err := filepath.Abs("testdata/groups")
	if err != nil {
		return err
	}
	g := &groupTools{jvm: &driver{argv: b.members.command("Tools", "-Xmx512m").Args, log: b.log}, bootstrap: ref.bootstrap, dir: dir}
	defer g.jvm.Close()
	var wg sync.WaitGroup
	for _, file := range scripts {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if !b.wants("groups", "tools", name) {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 2*checkWithin)
			defer cancel()
			began := time.Now()
			fixture, err := makeToolFixture(ctx, ref, name)
			if err == nil {
				err = g.play(ctx, file, b.golden && b.target == "kafka")
			}
			fixture.close()
			b.report.note("groups", "tools", name, time.Since(began), "", err)
		})
	}
	wg.Wait()
	return nil
}

// play runs a script; the error tells the runs that printed something else. With golden it writes
// down what they printed instead.
func (g *groupTools) play(ctx context.Context, file string, golden bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	runs, err := parseToolScript(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var differ bytes.Buffer
	count := 0
	for i, r := range runs {
		got, err := g.run(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.Join(r.args, " "), err)
		}
		if got != r.want && !golden {
			count++
			fmt.Fprintf(&differ, "\n$ %s\n%s", strings.Join(r.args, " "), lineDiff(r.want, got))
		}
		runs[i].want = got
	}
	if golden {
		return os.WriteFile(file, []byte(formatToolScript(runs)), 0o644)
	}
	if count > 0 {
		return fmt.Errorf("%d of %d runs print something else (- want, + got):%s", count, len(runs), differ.String())
	}
	return nil
}

// lineDiff is the lines that only one of two texts has.
func lineDiff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for _, line := range w {
		if !slices.Contains(g, line) {
			fmt.Fprintf(&out, "  - %s\n", line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			fmt.Fprintf(&out, "  + %s\n", line)
		}
	}
	return out.String()
}
