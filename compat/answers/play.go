package answers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// Scripts are the paths of all scripts in a folder, in the order of their names.
func Scripts(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("no script in %s", dir)
	}
	return paths, err
}

// NewPlayer waits until the broker at HOST:PORT serves every request, groups
// included. kafka says that it is Apache Kafka, which needs a moment after some
// requests until it behaves as it answered.
func NewPlayer(addr string, kafka bool) (*Player, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	p := &Player{addr: addr, port: int32(number), kafka: kafka}
	return p, p.warm()
}

// Compare plays a script and tells how many answers it got; those that differ
// from the script's are the error.
func (p *Player) Compare(path string) (answers int, err error) {
	s, err := readScript(path)
	if err != nil {
		return 0, err
	}
	got, err := p.play(s)
	if err != nil {
		return 0, err
	}
	if wrong := compare(s, got, p.kafka); wrong != "" {
		err = errors.New(wrong)
	}
	return len(got), err
}

// Record plays a script and writes the answers that it got into its file: those of
// Kafka, or of our broker those that are others on purpose.
func (p *Player) Record(path string) (answers int, err error) {
	s, err := readScript(path)
	if err != nil {
		return 0, err
	}
	got, err := p.play(s)
	if err != nil {
		return 0, err
	}
	for b, text := range got {
		if p.kafka {
			b.answer = text
		} else if b.reason != "" {
			b.ours = text
		}
	}
	return len(got), os.WriteFile(path, []byte(s.text()), 0o644)
}

// compare shows every answer that differs from the expected one, "" for none.
func compare(s *script, got map[*block]string, kafka bool) string {
	var all string
	for _, b := range s.blocks {
		text, ok := got[b]
		want := expected(b, kafka)
		if !ok || text == want {
			continue
		}
		all += fmt.Sprintf("\n  %s:%d: %s\n", s.name, b.line+len(b.comments), b.head)
		if b.body != "" {
			all += "  " + b.body + "\n"
		}
		all += diff(want, text)
	}
	return all
}
