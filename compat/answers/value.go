package answers

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// node is one value of a request as it is written in a script.
type node struct {
	kind   nodeKind
	text   string  // word: as written; text, raw: the value
	maker  string  // fields: the word before the brace, as batch in batch{..}
	fields []field // fields
	items  []node  // items
}

type nodeKind int

const (
	word   nodeKind = iota // 12, true, null, now-5, <topic-1>, name
	text                   // "..."
	raw                    // hex"..."
	fields                 // {..}
	items                  // [..]
)

type field struct {
	name  string
	value node
}

// parseFields reads the body of a request: fields without braces around them.
func parseFields(s string) (node, error) {
	r := &reader{s: s}
	n := node{kind: fields}
	fs, err := r.fields("")
	n.fields = fs
	if err != nil {
		line := 1 + strings.Count(s[:min(r.at, len(s))], "\n")
		return n, fmt.Errorf("line %d of the request: %w", line, err)
	}
	return n, nil
}

// reader parses values. Commas and line ends separate, more than one is fine.
type reader struct {
	s  string
	at int
}

func (r *reader) skip(chars string) {
	for r.at < len(r.s) && strings.IndexByte(chars, r.s[r.at]) >= 0 {
		r.at++
	}
}

// next is the next byte that is no white space and no separator, 0 at the end.
func (r *reader) next() byte {
	r.skip(" \t\r\n,")
	if r.at == len(r.s) {
		return 0
	}
	return r.s[r.at]
}

// fields reads until the closing bracket, or the end of the text for "".
func (r *reader) fields(end string) ([]field, error) {
	var fs []field
	for {
		c := r.next()
		if end != "" && c == end[0] {
			r.at++
			return fs, nil
		}
		if c == 0 {
			if end == "" {
				return fs, nil
			}
			return nil, fmt.Errorf("%q is missing", end)
		}
		name := r.word()
		r.skip(" \t")
		if name == "" || r.at == len(r.s) || r.s[r.at] != ':' {
			return nil, fmt.Errorf("want NAME: VALUE at %.20q", r.s[min(r.at, len(r.s)):])
		}
		r.at++
		v, err := r.value()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, f := range fs {
			if f.name == name {
				return nil, fmt.Errorf("field %s is given twice", name)
			}
		}
		fs = append(fs, field{name, v})
	}
}

func (r *reader) value() (node, error) {
	r.skip(" \t\r\n")
	if r.at == len(r.s) {
		return node{}, errors.New("a value is missing")
	}
	switch r.s[r.at] {
	case '{':
		r.at++
		fs, err := r.fields("}")
		return node{kind: fields, fields: fs}, err
	case '[':
		r.at++
		return r.items()
	case '"':
		s, err := r.quoted()
		return node{kind: text, text: s}, err
	}
	w := r.word()
	if w == "" {
		return node{}, fmt.Errorf("want a value at %.20q", r.s[r.at:])
	}
	if r.at == len(r.s) {
		return node{kind: word, text: w}, nil
	}
	switch {
	case r.s[r.at] == '{':
		r.at++
		fs, err := r.fields("}")
		return node{kind: fields, maker: w, fields: fs}, err
	case r.s[r.at] == '"' && w == "hex":
		s, err := r.quoted()
		if err != nil {
			return node{}, err
		}
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		return node{kind: raw, text: string(b)}, err
	}
	return node{kind: word, text: w}, nil
}

func (r *reader) items() (node, error) {
	n := node{kind: items}
	for {
		switch r.next() {
		case ']':
			r.at++
			return n, nil
		case 0:
			return n, errors.New(`"]" is missing`)
		}
		v, err := r.value()
		if err != nil {
			return n, err
		}
		n.items = append(n.items, v)
	}
}

func (r *reader) word() string {
	from := r.at
	for r.at < len(r.s) && (isWord(rune(r.s[r.at]))) {
		r.at++
	}
	return r.s[from:r.at]
}

func isWord(c rune) bool {
	return c < 0x80 && (unicode.IsLetter(c) || unicode.IsDigit(c) || strings.ContainsRune("_-+.<>/=*%", c))
}

func (r *reader) quoted() (string, error) {
	prefix, err := strconv.QuotedPrefix(r.s[r.at:])
	if err != nil {
		return "", fmt.Errorf("want a Go string at %.20q", r.s[r.at:])
	}
	r.at += len(prefix)
	return strconv.Unquote(prefix)
}
