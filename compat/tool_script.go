package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// toolClasses are the main classes behind the names of the tools.
func toolClasses() map[string]string {
	return map[string]string{"kafka-consumer-groups": consumerGroups, "kafka-groups": groupsCommand, "kafka-configs": kafkaConfigs,
		"kafka-transactions": kafkaTransactions, "kafka-console-consumer": consoleConsumer, "kafka-features": featureCommand}
}

// scriptRun is a run of a tool in a script: a line of its name and arguments,
// perhaps a line "only REGEXP" that picks lines of what it prints, perhaps a
// line "in order", a line "----", and what it prints up to an empty line.
//
// What it prints is written so that it is the same each time: words are one
// space apart, lines are sorted unless their order matters, ids, ports, and
// times in tables are put by names; then come the first line of standard error
// and an exit code other than 0. Stack traces are left out.
type scriptRun struct {
	comment []string // lines that begin with # before it
	args    []string
	only    string
	inOrder bool
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
			case line == "in order":
				r.inOrder = true
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
		if r.inOrder {
			lines = append(lines, "in order")
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

// toolPlayer plays scripts of tools against one broker. The tools run in one
// JVM, one at a time.
type toolPlayer struct {
	jvm       *driver
	bootstrap string
	dir       string // of the scripts and the files that they name as $dir/NAME
}

// newToolPlayer is a player of the scripts in a folder. It is to be closed.
func (b *bench) newToolPlayer(classes *javaClasses, bootstrap, dir string) (*toolPlayer, error) {
	dir, err := filepath.Abs(dir)
	return &toolPlayer{jvm: &driver{argv: classes.command("Tools", "-Xmx512m").Args, log: b.log}, bootstrap: bootstrap, dir: dir}, err
}

func (p *toolPlayer) Close() error { return p.jvm.Close() }

// play plays the script NAME.txt; the error tells the runs that printed
// something else. With golden it writes down what they printed instead.
func (p *toolPlayer) play(ctx context.Context, name string, golden bool) (runs int, err error) {
	file := filepath.Join(p.dir, name+".txt")
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	script, err := parseToolScript(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	var differ bytes.Buffer
	count := 0
	for i, r := range script {
		got, err := p.run(ctx, r)
		if err != nil {
			return i, fmt.Errorf("%s: %w", strings.Join(r.args, " "), err)
		}
		if got != r.want && !golden {
			count++
			fmt.Fprintf(&differ, "\n$ %s\n%s", strings.Join(r.args, " "), lineDiff(r.want, got))
		}
		script[i].want = got
	}
	if golden {
		return len(script), os.WriteFile(file, []byte(formatToolScript(script)), 0o644)
	}
	if count > 0 {
		err = fmt.Errorf("%d of %d runs print something else (- want, + got):%s", count, len(script), differ.String())
	}
	return len(script), err
}

func (p *toolPlayer) run(ctx context.Context, r scriptRun) (string, error) {
	class := toolClasses()[r.args[0]]
	if class == "" {
		return "", fmt.Errorf("unknown tool %q", r.args[0])
	}
	var args []string
	if !slices.Contains(r.args, "--validate-regex") {
		args = append(args, "--bootstrap-server", p.bootstrap) // some tools want it before their command
	}
	for _, a := range r.args[1:] {
		args = append(args, strings.ReplaceAll(a, "$dir", p.dir))
	}
	var answer toolAnswer
	if err := p.jvm.call(ctx, "run", map[string]any{"class": class, "args": args}, &answer); err != nil {
		return "", err
	}
	return p.steady(answer, r)
}

// steady writes what a tool printed so that it is the same each time.
func (p *toolPlayer) steady(a toolAnswer, r scriptRun) (string, error) {
	pick, err := regexp.Compile(r.only)
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(p.bootstrap)
	if err != nil {
		return "", err
	}
	lines, table := steadyLines(a.Out, pick)
	switch {
	case table:
		slices.Sort(lines[1:])
	case !r.inOrder:
		slices.Sort(lines)
	}
	complaints, _ := steadyLines(a.Err, pick)
	for i, line := range complaints {
		// The rest is how to use the tool, and what its catching our exit brings.
		if (i == 0 || strings.Contains(line, "Exception: ")) && line != "null" {
			lines = append(lines, "stderr: "+line)
		}
	}
	if a.Code != 0 {
		lines = append(lines, fmt.Sprintf("exit code %d", a.Code))
	}
	text := strings.NewReplacer(":"+port, ":PORT", p.dir, "$dir").Replace(strings.Join(lines, "\n"))
	return regexp.MustCompile(`\bEpoch: \d+`).ReplaceAllString(text, "Epoch: N"), nil
}

// steadyLines are the lines that pick picks, without the stack traces, and
// whether the first is the header of a table with tabs. Times and durations in
// such a table are their column's name in brackets.
func steadyLines(text string, pick *regexp.Regexp) (lines []string, table bool) {
	ids := regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	short := regexp.MustCompile(`(^| )[A-Za-z0-9_+/-]{22}(==)?( |$)`) // 16 bytes in base64
	var header []string
	for line := range strings.Lines(text) {
		trace := strings.HasPrefix(line, "\tat ") || strings.HasPrefix(line, "Caused by:") || strings.HasPrefix(line, "\t...")
		words := strings.Fields(line)
		if len(words) == 0 || trace {
			continue
		}
		isHeader := header == nil && len(words) > 3 && strings.Contains(line, "\t")
		if isHeader {
			header = words
		}
		for i, word := range words[:min(len(words), len(header))] {
			if !isHeader && isTime(header[i]) && word != "None" && word != "-1" {
				words[i] = "<" + header[i] + ">"
			}
		}
		line = strings.Join(words, " ")
		if !isHeader { // a name there can be as long as an id
			line = short.ReplaceAllString(ids.ReplaceAllString(line, "ID"), "${1}ID${3}")
		}
		if pick.MatchString(line) {
			table = table || isHeader && len(lines) == 0
			lines = append(lines, line)
		}
	}
	return lines, table
}

// isTime says whether a column of a table has points in time or durations up to now.
func isTime(column string) bool {
	return (strings.Contains(column, "Time") || strings.Contains(column, "Duration")) && !strings.HasSuffix(column, "TimeoutMs")
}

// lineDiff is the lines that only one of two texts has, and both texts if they differ in order alone.
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
	if out.Len() == 0 {
		fmt.Fprintf(&out, "  want in this order:\n%s\n  got:\n%s\n", want, got)
	}
	return out.String()
}
