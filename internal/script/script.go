// Package script runs the scripts that state machines are tested with: blocks of commands, a line "----", what they gave,
// a blank line. Only tests use it.
package script

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Files runs each testdata/*.txt. run gives a script back with what its commands give now; with golden that is written
// down, else it must be what stands there.
func Files(t *testing.T, golden bool, run func(t *testing.T, text string) string) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, string(text))
			if golden {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("the script gives something else (go test -golden shows it as a diff):\n%s", Difference(string(text), got))
			}
		})
	}
}

// Difference shows where two texts part first.
func Difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d, after\n%s\nwant %s\ngot  %s", i+1, strings.Join(w[max(i-8, 0):i], "\n"), w[i], g[i])
		}
	}
	return fmt.Sprintf("want %d lines, got %d", len(w), len(g))
}

// Blocks gives a text back with what its commands give now. run runs those of one block, without blank lines and
// comments.
func Blocks(text string, run func(commands []string) (given string)) string {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		input, _, _ := strings.Cut(block, "----")
		var commands []string
		for line := range strings.Lines(input) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				commands = append(commands, line)
			}
		}
		out.WriteString(strings.TrimSpace(input) + "\n")
		if len(commands) > 0 {
			out.WriteString("----\n" + run(commands))
		}
		out.WriteString("\n")
	}
	return strings.TrimSpace(out.String()) + "\n"
}

// Command splits a line into the command's name, its key=value arguments, and the text that those are.
func Command(line string) (name string, args map[string]string, rest string) {
	name, rest, _ = strings.Cut(line, " ")
	args = map[string]string{}
	for field := range strings.FieldsSeq(rest) {
		k, v, _ := strings.Cut(field, "=")
		args[k] = v
	}
	return name, args, rest
}

// Text is an argument, or what it is without one.
func Text(args map[string]string, key, otherwise string) string {
	if v, ok := args[key]; ok {
		return v
	}
	return otherwise
}

// Int is Text for integers. It panics over what is none.
func Int(args map[string]string, key string, otherwise int64) int64 {
	return parsed(args, key, otherwise, func(v string) (int64, error) { return strconv.ParseInt(v, 10, 64) })
}

// Duration is Text for durations. It panics over what is none.
func Duration(args map[string]string, key string, otherwise time.Duration) time.Duration {
	return parsed(args, key, otherwise, time.ParseDuration)
}

func parsed[T any](args map[string]string, key string, otherwise T, parse func(string) (T, error)) T {
	v, ok := args[key]
	if !ok {
		return otherwise
	}
	x, err := parse(v)
	if err != nil {
		panic(err)
	}
	return x
}
