package answers

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// script is one file of testdata/answers.
type script struct {
	name   string
	blocks []*block
}

// block is a paragraph of a script: comments, or a command.
type block struct {
	line     int
	comments []string
	head     string // the command's line, "" in a paragraph of comments only
	body     string
	answered bool // has a line ----
	answer   string
	reason   string // key of onPurpose: why our answer is another one
	ours     string

	conn  string
	verb  string // an API's name, or raw, receive, hangup, wait
	quiet bool   // send: the answer is read later, or never comes
	req   kmsg.Request
	options
	pause time.Duration
}

// options of a command.
type options struct {
	client  *string
	retry   string
	only    string
	hide    []string
	cut     int
	extra   []byte
	tag     uint32
	tagData []byte
}

// separator stands between a request and its answer; with the reason behind it,
// between Kafka's answer and ours.
const separator = "----"

func readScript(path string) (*script, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &script{name: filepath.Base(path)}
	var paragraph []string
	lines := append(strings.Split(string(b), "\n"), "")
	for i, l := range lines {
		if l != "" {
			paragraph = append(paragraph, l)
			continue
		}
		if len(paragraph) > 0 {
			from := i + 1 - len(paragraph)
			blk, err := parseBlock(paragraph, from)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", s.name, from, err)
			}
			s.blocks = append(s.blocks, blk)
		}
		paragraph = nil
	}
	return s, nil
}

// text is the script as it is written to its file.
func (s *script) text() string {
	var parts []string
	for _, b := range s.blocks {
		lines := append([]string{}, b.comments...)
		if b.head != "" {
			lines = append(lines, b.head)
		}
		if b.body != "" {
			lines = append(lines, b.body)
		}
		if b.answered {
			lines = append(lines, separator, strings.TrimRight(b.answer, "\n"))
		}
		if b.reason != "" {
			lines = append(lines, separator+" "+b.reason, strings.TrimRight(b.ours, "\n"))
		}
		parts = append(parts, strings.Join(lines, "\n"))
	}
	return strings.Join(parts, "\n\n") + "\n"
}

func parseBlock(lines []string, line int) (*block, error) {
	b := &block{line: line, conn: "main"}
	for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
		b.comments, lines = append(b.comments, lines[0]), lines[1:]
	}
	if len(lines) == 0 {
		return b, nil
	}
	b.head, lines = lines[0], lines[1:]
	for i, l := range lines {
		if l == separator {
			b.answered = true
			if err := b.parseAnswers(lines[i+1:]); err != nil {
				return nil, err
			}
			lines = lines[:i]
			break
		}
	}
	b.body = strings.Join(lines, "\n")
	if err := b.parseHead(); err != nil {
		return nil, err
	}
	mute := b.quiet || b.verb == "hangup" || b.verb == "wait"
	if b.answered == mute {
		return nil, fmt.Errorf("%q: a line %s is %s", b.head, separator, map[bool]string{true: "not allowed", false: "missing"}[mute])
	}
	return b, nil
}

// parseAnswers reads Kafka's answer, and ours where it is another one on purpose.
func (b *block) parseAnswers(lines []string) error {
	for i, l := range lines {
		reason, ok := strings.CutPrefix(l, separator+" ")
		if !ok {
			continue
		}
		if onPurpose[reason] == "" {
			return fmt.Errorf("there is no reason %q", reason)
		}
		b.reason, b.ours = reason, strings.Join(lines[i+1:], "\n")+"\n"
		lines = lines[:i]
		break
	}
	b.answer = strings.Join(lines, "\n") + "\n"
	if b.reason != "" && b.answer == b.ours && b.ours != "\n" {
		return fmt.Errorf("our answer is Kafka's: a line %s %s has no place here", separator, b.reason)
	}
	return nil
}

func (b *block) parseHead() error {
	ws := strings.Fields(b.head)
	if c, ok := strings.CutSuffix(ws[0], ":"); ok {
		b.conn, ws = c, ws[1:]
	}
	if len(ws) > 0 && ws[0] == "send" {
		b.quiet, ws = true, ws[1:]
	}
	if len(ws) == 0 {
		return fmt.Errorf("%q names no command", b.head)
	}
	b.verb = ws[0]
	switch b.verb {
	case "raw", "receive", "hangup":
		if len(ws) != 1 || b.quiet {
			return fmt.Errorf("%s takes no more words", b.verb)
		}
		return nil
	case "wait":
		if len(ws) != 2 {
			return fmt.Errorf("want wait DURATION")
		}
		var err error
		b.pause, err = time.ParseDuration(ws[1])
		return err
	}
	if len(ws) < 2 || !strings.HasPrefix(ws[1], "v") {
		return fmt.Errorf("%q: want API vN", b.head)
	}
	version, err := strconv.ParseInt(ws[1][1:], 10, 16)
	if err != nil {
		return fmt.Errorf("version %q: %w", ws[1], err)
	}
	if b.req = requestNamed(b.verb); b.req == nil {
		return fmt.Errorf("there is no API %q", b.verb)
	}
	b.req.SetVersion(int16(version))
	return b.parseOptions(ws[2:])
}

func (b *block) parseOptions(ws []string) error {
	client := "answers"
	b.client = &client
	for _, w := range ws {
		name, v, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("option %q: want NAME=VALUE", w)
		}
		var err error
		switch name {
		case "client":
			b.client = &v
			if v == "null" {
				b.client = nil
			}
		case "retry":
			b.retry = v
		case "only":
			b.only = v
		case "hide":
			b.hide = strings.Split(v, ",")
		case "cut":
			b.cut, err = strconv.Atoi(v)
		case "extra":
			b.extra, err = fromHex(v)
		case "tag":
			number, data, _ := strings.Cut(v, ":")
			var n uint64
			if n, err = strconv.ParseUint(number, 10, 32); err == nil {
				b.tag = uint32(n)
				b.tagData, err = fromHex(data)
			}
		default:
			return fmt.Errorf("there is no option %q", name)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", w, err)
		}
	}
	return nil
}

func requestNamed(name string) kmsg.Request {
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		if kmsg.NameForKey(key) == name {
			return kmsg.RequestForKey(key)
		}
	}
	return nil
}
