package answers

import (
	"encoding/base64"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// names replaces what differs from run to run by words, and words by what they
// stand for. One script has one.
type names struct {
	port    int32
	cluster string
	dir     string            // the broker's log directory
	start   time.Time         // what now means in requests
	words   map[string]string // kind + raw value -> word
	values  map[string]string // word -> raw value
	count   map[string]int    // kind -> numbers given out
	masked  bool              // while sorting: what has no word yet gets none, and looks like others of its kind
}

// Kinds of values that are numbered.
const (
	kindUUID     = "uuid"
	kindTopic    = "topic"
	kindProducer = "producer"
	kindSession  = "session"
	kindMember   = "member"
	kindTime     = "time"
)

func newNames(port int32, cluster, dir string, start time.Time) *names {
	return &names{port: port, cluster: cluster, dir: dir, start: start,
		words: map[string]string{}, values: map[string]string{}, count: map[string]int{}}
}

// word is what is shown for a value, numbered when it is seen first.
func (n *names) word(kind, value string) string {
	if w, ok := n.words[kind+value]; ok {
		return w
	}
	if n.masked {
		return "<" + kind + ">"
	}
	n.count[kind]++
	w := fmt.Sprintf("<%s-%d>", kind, n.count[kind])
	n.words[kind+value], n.values[w] = w, value
	return w
}

// literal remembers a value that the script itself chose: it is shown as written.
func (n *names) literal(kind, value, written string) {
	if _, ok := n.words[kind+value]; !ok {
		n.words[kind+value] = written
	}
}

// resolve puts values for all words in a text of a request.
func (n *names) resolve(s string) (string, error) {
	var err error
	return wordPattern.ReplaceAllStringFunc(s, func(w string) string {
		switch w {
		case "<cluster>":
			return n.cluster
		case "<dir>":
			return n.dir
		}
		v, ok := n.values[w]
		if !ok {
			err = fmt.Errorf("nothing was called %s yet", w)
		}
		if strings.HasPrefix(w, "<"+kindTopic) {
			return base64.RawURLEncoding.EncodeToString([]byte(v))
		}
		return v
	}), err
}

// number reads a number of a request.
func (n *names) number(s string) (int64, error) {
	if rest, ok := strings.CutPrefix(s, "now"); ok {
		var delta int64
		if rest != "" {
			var err error
			if delta, err = strconv.ParseInt(rest, 10, 64); err != nil {
				return 0, fmt.Errorf("%q is not now, now+N or now-N", s)
			}
		}
		t := n.start.UnixMilli() + delta
		n.literal(kindTime, strconv.FormatInt(t, 10), s)
		return t, nil
	}
	s, err := n.resolve(s)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(s, 10, 64)
}

// topicID reads an id: a word, 22 characters of base64 (URL), or none.
func (n *names) topicID(s string) (id [16]byte, err error) {
	if s == "none" {
		return id, nil
	}
	resolved, err := n.resolve(s)
	if err != nil {
		return id, err
	}
	b, err := base64.RawURLEncoding.DecodeString(resolved)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is not a topic id in base64", s)
	}
	copy(id[:], b)
	n.literal(kindTopic, string(b), s)
	return id, nil
}

var (
	wordPattern  = regexp.MustCompile(`<(?:uuid|topic|producer|session|member)-[0-9]+>|<cluster>|<dir>`)
	uuidPattern  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	id64Pattern  = regexp.MustCompile(`[A-Za-z0-9_-]{22}`)
	timesPattern = regexp.MustCompile(`-?[0-9]{13,19}`)
)

// showText is a text of an answer, quoted where it is no plain word.
func (n *names) showText(s string) string {
	s = n.plainText(s)
	if len(s) > 120 && strings.Count(s, s[:1]) > len(s)/2 {
		return fmt.Sprintf("%q... (%d bytes)", s[:12], len(s))
	}
	if s != "" && s != "null" && strings.IndexFunc(s, func(c rune) bool { return !isWord(c) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

// showMemberID is a member's id; those that a coordinator of consumer groups makes (KIP-848) are numbered.
func (n *names) showMemberID(id string) string {
	if len(id) == 22 && id64Pattern.MatchString(id) {
		return n.word(kindMember, id)
	}
	return n.showText(id)
}

// plainText replaces the known values in a text.
func (n *names) plainText(s string) string {
	s = uuidPattern.ReplaceAllStringFunc(s, func(u string) string { return n.word(kindUUID, u) })
	s = strings.ReplaceAll(s, n.cluster, "<cluster>")
	if n.dir != "" {
		s = strings.ReplaceAll(s, n.dir, "<dir>")
	}
	s = id64Pattern.ReplaceAllStringFunc(s, func(t string) string {
		if w, ok := n.words[kindMember+t]; ok {
			return w
		}
		b, err := base64.RawURLEncoding.DecodeString(t)
		if err != nil || n.words[kindTopic+string(b)] == "" {
			return t
		}
		return n.word(kindTopic, string(b))
	})
	s = timesPattern.ReplaceAllStringFunc(s, func(t string) string {
		v, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			return t
		}
		return n.showTime(v)
	})
	return strings.ReplaceAll(s, fmt.Sprintf("127.0.0.1:%d", n.port), "127.0.0.1:<port>")
}

// showTime is a number that may be a time in ms: what the script called it,
// <now> for one within half a minute of now, <now+60m> for one within half a
// minute of that, up to a day away; <now-max> for now less the largest number;
// else the number.
func (n *names) showTime(v int64) string {
	s := strconv.FormatInt(v, 10)
	if w, ok := n.words[kindTime+s]; ok {
		return w
	}
	if w, ok := aroundNow(time.Until(time.UnixMilli(v))); ok {
		return w
	}
	if w, ok := aroundNow(time.Until(time.UnixMilli(v + math.MaxInt64))); ok && v < 0 && w == "<now>" {
		return "<now-max>"
	}
	return s
}

// aroundNow names a time by its distance from now.
func aroundNow(d time.Duration) (string, bool) {
	if d.Abs() > 24*time.Hour {
		return "", false
	}
	if m := d.Round(time.Minute); m != 0 {
		return fmt.Sprintf("<now%+dm>", int(m.Minutes())), true
	}
	return "<now>", true
}

func (n *names) showTopicID(id [16]byte) string {
	if id == [16]byte{} {
		return "none"
	}
	return n.word(kindTopic, string(id[:]))
}

// showNumber is a number field of an answer.
func (n *names) showNumber(name string, v int64) string {
	switch {
	case strings.HasSuffix(name, "ErrorCode") && v != 0:
		return fmt.Sprintf("%d %s", v, errorName(int16(v)))
	case name == "Port" && v == int64(n.port):
		return "<port>"
	case name == "ProducerID" && v >= 0:
		return n.word(kindProducer, strconv.FormatInt(v, 10))
	case name == "SessionID" && v > 0:
		return n.word(kindSession, strconv.FormatInt(v, 10))
	case name == "FinalizedFeaturesEpoch" && v >= 0:
		return "<epoch>"
	}
	return n.showTime(v)
}

// errorName is Kafka's name of an error code.
func errorName(code int16) string {
	if e := kerr.TypedErrorForCode(code); e != nil {
		return e.Message
	}
	return "?"
}
