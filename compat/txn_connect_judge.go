package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// connectLines are the lines of a file that a connector reads while it grows: a
// piece of the corpus, and after it as many "end" as need be. Each begins with its number in seven digits,
// from 0, and is ASCII: the connector keeps its place in the file by counting characters and goes back to it by
// counting bytes.
type connectLines [][]byte

// newConnectLines takes the corpus's values, with new numbers.
func newConnectLines(values [][]byte) connectLines {
	lines := make(connectLines, len(values))
	for i, v := range values {
		text := string(v[7:])
		if !isASCII(v) {
			text = "u" + strconv.QuoteToASCII(text)
		}
		lines[i] = fmt.Appendf(nil, "%07d%s", i, text)
	}
	return lines
}

func isASCII(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r >= utf8.RuneSelf })
}

// line is the line of a number.
func (l connectLines) line(n int) []byte {
	if n < len(l) {
		return l[n]
	}
	return fmt.Appendf(nil, "%07d=end", n)
}

// lineJudge sees lines in the order in which they arrive. None may be missing
// before another, or be altered; whether one may come again is up to the caller.
type lineJudge struct {
	lines   connectLines
	next    int // number of the first line that was not there yet
	repeats int
}

func (j *lineJudge) add(line []byte) error {
	n := -1
	if len(line) > 7 {
		n, _ = strconv.Atoi(string(line[:7]))
	}
	switch {
	case n < 0 || !bytes.Equal(line, j.lines.line(n)):
		return fmt.Errorf("line %.80q was never written, %.80q is next", line, j.lines.line(j.next))
	case n > j.next:
		return fmt.Errorf("line %d comes where %d is next", n, j.next)
	case n == j.next:
		j.next++
	default:
		j.repeats++
	}
	return nil
}

// judgeSink reads the file of a sink. Where its writer was killed, at the sizes torn, a line may be cut off.
func judgeSink(lines connectLines, file []byte, torn []int64) (*lineJudge, error) {
	j := &lineJudge{lines: lines}
	from := int64(0)
	for _, end := range append(slices.Clone(torn), int64(len(file))) {
		written := file[from:end]
		from = end
		for line := range bytes.Lines(written) {
			whole, ended := bytes.CutSuffix(line, []byte("\n"))
			if !ended {
				break // the last one
			}
			if err := j.add(whole); err != nil {
				return j, fmt.Errorf("the sink's file: %w", err)
			}
		}
	}
	return j, nil
}

// plainLine is a record's value as StringConverter writes it.
func plainLine(value []byte) ([]byte, error) { return value, nil }

// jsonLine is the string in a record's value as JsonConverter writes it with its schema.
func jsonLine(value []byte) ([]byte, error) {
	var v struct {
		Schema  struct{ Type string }
		Payload string
	}
	if err := json.Unmarshal(value, &v); err != nil || v.Schema.Type != "string" {
		return nil, fmt.Errorf("value %.80q is no JSON of a string with its schema", value)
	}
	return []byte(v.Payload), nil
}
