package checker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A history as text has a line for each call, in words:
//
//	writer W CLIENT
//	send W.N PARTITION TXN
//	sent W.N OUTCOME OFFSET
//	begin TXN CLIENT
//	ask TXN TIME
//	end TXN OUTCOME TIME
//	consumer NAME [committed] [assigned] [control] [final]
//	poll NAME TXN TIME PARTITION:OFFSET=W.N ...   also =COMMIT, =ABORT, =FOREIGN
//	commit ID CLIENT GROUP PARTITION OFFSET TXN TIME
//	committed ID OUTCOME TIME
//	fetched GROUP PARTITION ID OFFSET BEGIN END
//	start|stable|high PARTITION FLOOR OFFSET
//	trimmed PARTITION OFFSET
//	settled PARTITION STABLE HIGH
//	producer ID OWNER
//	put KEY value|tombstone
//	putdone KEY NUMBER OUTCOME
//	kept KEY NUMBER
//	restarted | check TIME | finish TIME
//	# what is of no matter to the rules
//
// Clients in other processes tell what they do in these lines, and what is kept of a run is judged again from them.

// Apply makes the call that a line stands for.
func (h *History) Apply(line string) error {
	w := &words{rest: line}
	switch verb := w.next(); verb {
	case "#", "":
		return nil
	case "writer", "send", "sent":
		h.applySend(verb, w)
	case "begin", "ask", "end":
		h.applyTxn(verb, w)
	case "consumer", "poll":
		h.applyPoll(verb, w)
	case "commit", "committed", "fetched":
		h.applyCommit(verb, w)
	case "start", "stable", "high", "trimmed", "settled":
		h.applyMarks(verb, w)
	case "put", "putdone", "kept":
		h.applyKey(verb, w)
	case "producer":
		h.ProducerID(w.number(), w.next())
	case "restarted":
		h.Restarted()
	case "check":
		h.Check(w.number())
	case "finish":
		h.Finish(w.number())
	default:
		w.bad = fmt.Errorf("unknown word %q", verb)
	}
	if w.bad != nil {
		return fmt.Errorf("line %.100q: %w", line, w.bad)
	}
	return nil
}

func (h *History) applySend(verb string, w *words) {
	switch verb {
	case "writer":
		h.Writer(w.id(), w.next())
	case "send":
		v, p, txn := w.value(), w.partition(h), w.id()
		if w.bad == nil {
			h.Send(v, p, txn)
		}
	case "sent":
		v, outcome, offset := w.value(), w.outcome(), w.number()
		if w.bad == nil {
			h.Sent(v, outcome, offset)
		}
	}
}

func (h *History) applyTxn(verb string, w *words) {
	id := w.id()
	switch verb {
	case "begin":
		h.Begin(id, w.next())
	case "ask":
		h.Ask(id, w.number())
	case "end":
		outcome, at := w.outcome(), w.number()
		h.End(id, outcome, at)
	}
}

func (h *History) applyPoll(verb string, w *words) {
	name := w.next()
	if verb == "consumer" {
		c := Consumer{Name: name}
		for word := w.next(); word != ""; word = w.next() {
			c.Committed = c.Committed || word == "committed"
			c.Assigned = c.Assigned || word == "assigned"
			c.Control = c.Control || word == "control"
			c.Final = c.Final || word == "final"
		}
		h.Consumer(c)
		return
	}
	if h.consumers[name] == nil {
		w.bad = errors.New("no such consumer")
		return
	}
	txn, at := w.id(), w.number()
	var rs []Read
	for item := w.next(); item != "" && w.bad == nil; item = w.next() {
		r, ok := parseRead(item)
		if !ok {
			w.bad = fmt.Errorf("%q is no record", item)
		}
		rs = append(rs, r)
	}
	if w.bad == nil {
		h.Poll(name, txn, at, rs)
	}
}

// parseRead reads PARTITION:OFFSET=VALUE.
func parseRead(item string) (Read, bool) {
	place, value, ok1 := strings.Cut(item, "=")
	p, o, ok2 := strings.Cut(place, ":")
	partition, err1 := strconv.ParseInt(p, 10, 32)
	offset, err2 := strconv.ParseInt(o, 10, 64)
	r := Read{int32(partition), offset, Foreign}
	switch value {
	case "COMMIT":
		r.Value = CommitMarker
	case "ABORT":
		r.Value = AbortMarker
	case "FOREIGN":
	default:
		r.Value = ParseValue([]byte(value + "."))
	}
	return r, ok1 && ok2 && err1 == nil && err2 == nil
}

// String is the record as a word of a poll.
func (r Read) String() string { return fmt.Sprintf("%d:%d=%v", r.Partition, r.Offset, r.Value) }

func (h *History) applyCommit(verb string, w *words) {
	switch verb {
	case "commit":
		id, client, group, p, offset, txn, at := w.id(), w.next(), w.next(), w.partition(h), w.number(), w.id(), w.number()
		if w.bad == nil {
			h.Commit(id, client, group, p, offset, txn, at)
		}
	case "committed":
		id, outcome, at := w.id(), w.outcome(), w.number()
		h.Committed(id, outcome, at)
	case "fetched":
		group, p, id, offset, begin, end := w.next(), w.partition(h), w.id(), w.number(), w.number(), w.number()
		if w.bad == nil {
			h.Fetched(group, p, id, offset, begin, end)
		}
	}
}

func (h *History) applyMarks(verb string, w *words) {
	p, a := w.partition(h), w.number()
	if verb == "trimmed" {
		h.Trimmed(p, a)
		return
	}
	b := w.number()
	if w.bad != nil {
		return
	}
	switch verb {
	case "start":
		h.SampleStart(p, Marks{Start: a}, b)
	case "stable":
		h.SampleStable(p, Marks{Stable: a}, b)
	case "high":
		h.SampleHigh(p, Marks{High: a}, b)
	case "settled":
		h.Settled(p, a, b)
	}
}

func (h *History) applyKey(verb string, w *words) {
	key := w.next()
	switch verb {
	case "put":
		h.Put(key, w.next() == "tombstone")
	case "putdone":
		number, outcome := w.id(), w.outcome()
		if k := h.keys[key]; k == nil || number == 0 || int(number) > len(k.puts) {
			w.bad = errors.New("no such value of a key")
			return
		}
		h.PutDone(key, number, outcome)
	case "kept":
		h.Kept(key, w.id())
	}
}

// words takes a line apart; bad is the first thing wrong with it.
type words struct {
	rest string
	bad  error
}

// next answers the next word, empty at the end.
func (w *words) next() string {
	w.rest = strings.TrimLeft(w.rest, " ")
	word, rest, _ := strings.Cut(w.rest, " ")
	w.rest = rest
	return word
}

func (w *words) number() int64 {
	n, err := strconv.ParseInt(w.next(), 10, 64)
	w.bad = errors.Join(w.bad, err)
	return n
}

func (w *words) id() uint32 {
	n, err := strconv.ParseUint(w.next(), 10, 32)
	w.bad = errors.Join(w.bad, err)
	return uint32(n)
}

func (w *words) partition(h *History) int32 {
	p := w.number()
	if p < 0 || p >= int64(len(h.parts)) {
		w.bad = errors.Join(w.bad, fmt.Errorf("there is no partition %d", p))
		return 0
	}
	return int32(p)
}

func (w *words) value() Value {
	v := ParseValue([]byte(w.next() + "."))
	if v == Foreign {
		w.bad = errors.Join(w.bad, errors.New("no value"))
	}
	return v
}

func (w *words) outcome() Outcome {
	switch word := w.next(); word {
	case "ok":
		return OK
	case "failed":
		return Failed
	case "unknown":
		return Unknown
	default:
		w.bad = errors.Join(w.bad, fmt.Errorf("no outcome: %q", word))
		return Unknown
	}
}

// nearby is how far from the offsets of a violation records are still part of its slice.
const nearby = 3

// Slice copies from a history as text the lines that a violation is about; of polls, the records.
func (h *History) Slice(v Violation, from io.Reader, to io.Writer) error {
	if _, err := fmt.Fprintf(to, "# %v\n", v); err != nil {
		return err
	}
	concerned := map[string]bool{} // transactions
	for _, value := range v.Values {
		if w := h.writers[value.Writer()]; w != nil && int(value.Number()) <= len(w.sends) {
			concerned[strconv.FormatUint(uint64(h.send(value).txn), 10)] = true
		}
	}
	delete(concerned, "0")
	for lines := bufio.NewReader(from); ; {
		line, err := lines.ReadString('\n')
		if part := v.concerns(strings.Fields(line), concerned); part != "" {
			if _, err := fmt.Fprintln(to, part); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// concerns answers what of a line is about a violation, empty if nothing is.
func (v Violation) concerns(words []string, txns map[string]bool) string {
	if len(words) < 2 && !slices.Equal(words, []string{"restarted"}) {
		return ""
	}
	line := strings.Join(words, " ")
	named := func(word string) bool {
		return slices.ContainsFunc(v.Values, func(x Value) bool { return x.String() == word })
	}
	partition := strconv.Itoa(int(v.Partition))
	keep := false
	switch words[0] {
	case "#", "restarted":
		keep = true
	case "send", "sent":
		keep = named(words[1])
	case "begin", "ask", "end":
		keep = txns[words[1]]
	case "poll":
		near := slices.DeleteFunc(slices.Clone(words[min(4, len(words)):]), func(item string) bool {
			r, _ := parseRead(item)
			return !v.near(r) && !named(r.Value.String())
		})
		if len(near) > 0 {
			return strings.Join(append(words[:4:4], near...), " ")
		}
	case "commit":
		keep = slices.Contains(v.Clients, words[3]) && words[4] == partition
	case "fetched":
		keep = slices.Contains(v.Clients, words[1]) && words[2] == partition
	case "committed":
		keep = v.Rule == LostCommit
	case "start", "stable", "high", "trimmed", "settled":
		keep = words[1] == partition && (v.Rule == LogStartBack || v.Rule == StableBack || v.Rule == HighWatermarkBack || v.Rule == Hanging)
	case "producer":
		keep = v.Rule == ReusedProducer
	case "put", "putdone", "kept":
		keep = v.Rule == LostKey && strings.Contains(v.Text, "key "+words[1]+":")
	}
	if keep {
		return line
	}
	return ""
}

func (v Violation) near(r Read) bool {
	return r.Partition == v.Partition && slices.ContainsFunc(v.Offsets, func(o int64) bool { return r.Offset >= o-nearby && r.Offset <= o+nearby })
}
