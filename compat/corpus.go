package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// corpus is text as records: each line of a file is one, its key the file's
// name, its value the number of the line in seven digits, a mark and the text
// (see frameLine).
type corpus struct {
	path   string         // file of lines, key and value apart by a unit separator, as feeders read them
	lines  int            // of all files together
	keys   []string       // in sorted order
	index  map[string]int // of keys
	counts []int          // lines of each key
	sum    [sha256.Size]byte
}

// errEnough ends the walk when the corpus is as long as asked.
var errEnough = errors.New("enough lines")

// goCorpus is the source of Go's standard library, as much of it as asked
// (0 = all), written to path. Files with a line of over 900 KiB are left out.
func goCorpus(ctx context.Context, path string, lines int) (*corpus, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(out)), "src")
	return buildCorpus(path, lines, func(add func(key string, text []byte) error) error {
		return filepath.WalkDir(src, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(name) != ".go" {
				return err
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(bytes.Split(text, []byte("\n")), func(line []byte) bool { return len(line) > longestLine }) {
				return nil
			}
			key, err := filepath.Rel(src, name)
			if err != nil {
				return err
			}
			return add(filepath.ToSlash(key), text)
		})
	})
}

// longestLine bounds a line in bytes, so that its record is one that clients and
// brokers take with their defaults, 1 MiB. One file of Go's has a longer one.
const longestLine = 900 << 10

// smallCorpus is a few files made up here.
func smallCorpus(path string, keys, lines int) (*corpus, error) {
	return buildCorpus(path, 0, func(add func(key string, text []byte) error) error {
		for k := range keys {
			if err := add(fmt.Sprintf("made/up/%02d", k), bytes.Repeat([]byte("a line\n"), lines)); err != nil {
				return err
			}
		}
		return nil
	})
}

func buildCorpus(path string, limit int, each func(add func(key string, text []byte) error) error) (*corpus, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	c := &corpus{path: path, index: map[string]int{}}
	values := map[string][][]byte{}
	err = each(func(key string, text []byte) error {
		for i, line := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
			value := frameLine(i+1, line)
			values[key] = append(values[key], value)
			c.lines++
			fmt.Fprintf(w, "%s%s%s\n", key, fieldSeparator, value)
			if c.lines == limit {
				return errEnough
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	for key := range values {
		c.keys = append(c.keys, key)
	}
	slices.Sort(c.keys)
	all := make([][][]byte, len(c.keys))
	for i, key := range c.keys {
		c.index[key] = i
		c.counts = append(c.counts, len(values[key]))
		all[i] = values[key]
	}
	c.sum = c.sumOf(all)
	return c, errors.Join(w.Flush(), f.Close())
}

// frameLine makes a line of text a value that every client takes as it is: its
// number, then "=" and the text, or "q" and the text quoted where it has bytes
// that a line-reading tool would not give back. Empty lines and tabs stay as
// they are.
func frameLine(number int, text []byte) []byte {
	plain := utf8.Valid(text) && !bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
	if plain {
		return fmt.Appendf(nil, "%07d=%s", number, text)
	}
	return fmt.Appendf(nil, "%07dq%s", number, strconv.QuoteToASCII(string(text)))
}

// sumOf is the SHA-256 over the sorted lines. The separator sorts below every
// byte of a key and the numbers have equal length: the lines of sorted keys,
// each key's in order, are sorted lines.
func (c *corpus) sumOf(values [][][]byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for i, key := range c.keys {
		for _, value := range values[i] {
			h.Write([]byte(key + fieldSeparator))
			h.Write(value)
			h.Write([]byte("\n"))
		}
	}
	h.Sum(sum[:0])
	return sum
}

// tally holds records that were read against the corpus that was written. Not
// safe for concurrent use.
type tally struct {
	c       *corpus
	values  [][][]byte
	places  [][]place
	seen    int // different lines
	repeats int // reads of a record that was read before
	wrong   []string
}

// place is where a line is in the topic; offset -1 = not seen.
type place struct {
	partition int32
	offset    int64
}

// wrongLimit is how many wrong records are told one by one.
const wrongLimit = 5

func newTally(c *corpus) *tally {
	t := &tally{c: c, values: make([][][]byte, len(c.keys)), places: make([][]place, len(c.keys))}
	for i, n := range c.counts {
		t.values[i] = make([][]byte, n)
		t.places[i] = slices.Repeat([]place{{offset: -1}}, n)
	}
	return t
}

func (t *tally) complain(format string, args ...any) {
	if len(t.wrong) < wrongLimit {
		t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
	}
}

// add counts a record. It keeps value.
func (t *tally) add(partition int32, offset int64, key, value []byte) {
	k, ok := t.c.index[string(key)]
	number := 0
	if ok && len(value) > 7 {
		number, _ = strconv.Atoi(string(value[:7]))
	}
	if number < 1 || number > t.c.counts[k] {
		t.complain("partition %d offset %d: %.40q=%.60q was never written", partition, offset, key, value)
		return
	}
	at := &t.places[k][number-1]
	switch {
	case at.offset < 0:
		*at = place{partition, offset}
		t.values[k][number-1] = value
		t.seen++
	case *at == place{partition, offset}:
		t.repeats++
	default:
		t.complain("line %d of %s is in the log twice: partition %d offset %d and partition %d offset %d",
			number, key, at.partition, at.offset, partition, offset)
	}
}

func (t *tally) complete() bool { return t.seen == t.c.lines }

// verdict says what is wrong: lines lost, written twice, out of order or
// altered, and unless repeats are allowed, read twice.
func (t *tally) verdict(mayRepeat bool) error {
	if t.repeats > 0 && !mayRepeat {
		t.complain("%d records were read twice", t.repeats)
	}
	if !t.complete() {
		t.complain("%d of %d lines were not read", t.c.lines-t.seen, t.c.lines)
	}
	for k, places := range t.places {
		for i := 1; i < len(places); i++ {
			a, b := places[i-1], places[i]
			if a.offset >= 0 && b.offset >= 0 && (a.partition != b.partition || a.offset >= b.offset) {
				t.complain("line %d of %s is at partition %d offset %d, line %d at partition %d offset %d",
					i, t.c.keys[k], a.partition, a.offset, i+1, b.partition, b.offset)
			}
		}
	}
	if len(t.wrong) == 0 && t.c.sumOf(t.values) != t.c.sum {
		t.complain("the SHA-256 over the sorted lines differs")
	}
	if len(t.wrong) > 0 {
		return errors.New(strings.Join(t.wrong, "; "))
	}
	return nil
}
