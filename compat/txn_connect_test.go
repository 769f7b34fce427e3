package main

import (
	"strings"
	"testing"
)

// The judge of lines tells what a broker or a connector can get wrong.
func TestLineJudge(t *testing.T) {
	lines := newConnectLines([][]byte{[]byte("0000001=a"), []byte("0000002="), []byte("0000003=\u00e9")})
	for _, k := range []struct {
		name, lines   string
		next, repeats int
		want          string // part of the complaint, empty = none
	}{
		{"all well", "0000000=a|0000001=|0000002u\"=\\u00e9\"|0000003=end", 4, 0, ""},
		{"again from the second", "0000000=a|0000001=|0000001=|0000002u\"=\\u00e9\"", 3, 1, ""},
		{"one missing", "0000000=a|0000002u\"=\\u00e9\"", 1, 0, "line 2 comes where 1 is next"},
		{"altered", "0000000=b", 0, 0, "was never written"},
		{"two in one", "0000000=a0000001=", 0, 0, "was never written"},
		{"no line", "", 0, 0, "was never written"},
	} {
		j := lineJudge{lines: lines}
		var err error
		for line := range strings.SplitSeq(k.lines, "|") {
			if err = j.add([]byte(line)); err != nil {
				break
			}
		}
		if err == nil && k.want != "" || err != nil && (k.want == "" || !strings.Contains(err.Error(), k.want)) {
			t.Errorf("%s: complaint %v, want %q", k.name, err, k.want)
		}
		if j.next != k.next || j.repeats != k.repeats {
			t.Errorf("%s: %d lines and %d repeats, want %d and %d", k.name, j.next, j.repeats, k.next, k.repeats)
		}
	}
}

// A line may be cut off where the writer of the file was killed, and nowhere else.
func TestJudgeSink(t *testing.T) {
	lines := newConnectLines([][]byte{[]byte("0000001=a"), []byte("0000002=b")})
	const file = "0000000=a\n0000001=0000001=b\n0000002=end\n00000"
	if j, err := judgeSink(lines, []byte(file), []int64{18}); err != nil || j.next != 3 {
		t.Errorf("%d lines, %v", j.next, err)
	}
	if _, err := judgeSink(lines, []byte(file), nil); err == nil {
		t.Error("a torn line where nobody was killed is no complaint")
	}
}

// The string is found in what JsonConverter writes by default.
func TestJSONLine(t *testing.T) {
	line, err := jsonLine([]byte(`{"schema":{"type":"string","optional":false},"payload":"0000000=\ta"}`))
	if string(line) != "0000000=\ta" || err != nil {
		t.Errorf("line %q, %v", line, err)
	}
	for _, value := range []string{"0000000=a", `{"payload":"a"}`, `{"schema":{"type":"int64"},"payload":"1"}`} {
		if line, err := jsonLine([]byte(value)); err == nil {
			t.Errorf("%s is the line %q", value, line)
		}
	}
}
