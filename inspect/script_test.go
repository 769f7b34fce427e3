package inspect

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var golden = flag.Bool("golden", false, "rewrite what is printed in the scripts")

// The scripts in testdata are what check and dump say: blocks of commands, a line "----",
// what is printed, an empty line. Commands:
//
//	flip FILE BYTE BIT    changes a bit
//	cut FILE BYTES        makes a file shorter
//	remove FILE
//	put FILE TEXT         replaces a file; TEXT is quoted
//	unclean               as a stop in the middle of writing leaves the directory
//	check [FOLDER]        the findings and their count
//	dump [records] [json] [as=KIND] FILE
//
// Each block begins with a directory of its own. -golden rewrites what is printed.
func TestScripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for i, block := range strings.Split(strings.TrimRight(string(text), "\n"), "\n\n") {
				commands, want, _ := strings.Cut(block+"\n", "----\n")
				got := play(t, commands)
				if i > 0 {
					out.WriteByte('\n')
				}
				fmt.Fprintf(&out, "%s----\n%s", commands, got)
				if strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") && !*golden {
					t.Errorf("%s----\ngot:\n%swant:\n%s", commands, got, want)
				}
			}
			if *golden {
				if err := os.WriteFile(name, []byte(out.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// play runs the commands of one block.
func play(t *testing.T, commands string) string {
	t.Helper()
	r := newRig(t)
	var out strings.Builder
	for line := range strings.Lines(commands) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		switch f[0] {
		case "flip":
			b := r.get(f[1])
			b[number(t, f[2])] ^= 1 << number(t, f[3])
			r.put(f[1], b)
		case "cut":
			r.put(f[1], r.get(f[1])[:number(t, f[2])])
		case "remove":
			r.must(r.fs.Remove(filepath.Join(r.dir, f[1])))
		case "put":
			text, err := strconv.Unquote(strings.TrimSpace(strings.SplitN(line, " ", 3)[2]))
			r.must(err)
			r.put(f[1], []byte(text))
		case "unclean":
			r.must(r.fs.Remove(filepath.Join(r.dir, cleanShutdownFile)))
			r.put(recoveryPointFile, []byte("0\n0\n"))
		case "check":
			found, sum := r.check(filepath.Join(append([]string{r.dir}, f[1:]...)...))
			for _, f := range found {
				fmt.Fprintln(&out, f)
			}
			fmt.Fprintf(&out, "damage %d, derived %d, notices %d\n", sum.Damage, sum.Derived, sum.Notices)
		case "dump":
			r.dump(&out, f[1:])
		default:
			t.Fatalf("unknown command %q", line)
		}
	}
	return out.String()
}

func (r *rig) dump(out *strings.Builder, args []string) {
	o := DumpOptions{FS: r.fs}
	for _, a := range args[:len(args)-1] {
		switch kind, as := strings.CutPrefix(a, "as="); {
		case as:
			k, ok := ParseKind(kind)
			if !ok {
				r.t.Fatalf("no kind %q", kind)
			}
			o.As, o.Records = &k, true
		default:
			o.Records, o.JSON = o.Records || a == "records", o.JSON || a == "json"
		}
	}
	var b bytes.Buffer
	err := Dump(&b, o, filepath.Join(r.dir, args[len(args)-1]))
	out.Write(b.Bytes())
	if err != nil {
		fmt.Fprintln(out, "error:", err)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
