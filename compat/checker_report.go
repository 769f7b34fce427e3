package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/rotpeter/rotpeter/compat/checker"
)

// add adds what another round did.
func (c *checkerCounts) add(o checkerCounts) {
	for k, n := range o.ops {
		c.ops[k] += n
	}
	for k, n := range o.facts {
		c.facts[k] += n
	}
	c.records += o.ops["sent ok"]
	c.polled += o.polled
	c.polls += o.polls
	c.kills += o.kills
	c.pauses += o.pauses
	c.restarts += o.restarts
	c.removed += o.removed
	c.writeCycles += o.writeCycles
	c.found = append(c.found, o.found...)
	c.judged += o.judged
	c.downtime += o.downtime
	c.heapMegabytes = max(c.heapMegabytes, o.heapMegabytes)
	c.millionOp = max(c.millionOp, o.heapMegabytes*1e6/float64(max(1, o.operations())))
}

// operations is how many a history has: each record that is sent or read counts, too.
func (c *checkerCounts) operations() (n int64) {
	for _, k := range c.ops {
		n += k
	}
	return n + c.polled
}

// print prints what was done, and how often each rule was applied.
func (c *checkerCounts) print(out io.Writer) {
	var ops []string
	for _, k := range slices.Sorted(maps.Keys(c.ops)) {
		ops = append(ops, fmt.Sprintf("%s %d", k, c.ops[k]))
	}
	seconds := max(c.took.Seconds(), 1)
	fmt.Fprintf(out, "\nchecker\n  operations: %d: %s, polls %d with %d records\n", c.operations(), strings.Join(ops, ", "), c.polls, c.polled)
	fmt.Fprintf(out, "  faults: %d kills, %d pauses, %d restarts, %.1fs away\n", c.kills, c.pauses, c.restarts, c.downtime.Seconds())
	fmt.Fprintf(out, "  %.0f records written and %.0f read a second, in %.0fs; %.1fs to judge; %.0f MB of memory at most, %.0f MB for a million operations\n",
		float64(c.records)/seconds, float64(c.polled)/seconds, c.took.Seconds(), c.judged.Seconds(), c.heapMegabytes, c.millionOp)
	fmt.Fprintf(out, "  values that compaction removed: %d; write cycles, which Kafka allows: %d\n", c.removed, c.writeCycles)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	broken := map[checker.Rule]int{}
	for _, v := range c.found {
		broken[v.Rule]++
	}
	for _, r := range checker.Rules() {
		fmt.Fprintf(w, "  %s\tapplied to\t%d\tbroken\t%d\n", r, c.facts[r], broken[r])
	}
	w.Flush()
}

// kafkaSkips is what Apache Kafka logs when it completes a transaction without its markers: a single node knows of no leaders
// while it stops and just after it has started, and then takes the partitions for deleted.
const kafkaSkips = "these partitions are likely deleted already and hence can be skipped"

// checkerKnown says why Apache Kafka is known to do what broke a rule, empty if that is not known. A transaction without
// markers is torn or hangs, so that readers with read_committed go no further; or the producer's next one commits what was aborted.
func checkerKnown(v checker.Violation, skipped bool) string {
	switch v.Rule {
	case checker.LogStartBack:
		return "the log start is written down once a minute (log.flush.start.offset.checkpoint.interval.ms), whatever DeleteRecords has answered"
	case checker.Torn, checker.Hanging, checker.AbortedRead:
		if skipped {
			return "its log says of partitions whose transactions end: " + kafkaSkips
		}
	case checker.LostWrite, checker.Unseen:
		if skipped && strings.HasSuffix(v.Text, "with read_committed") {
			return "readers with read_committed do not pass a transaction that hangs; " + kafkaSkips
		}
	}
	return ""
}

// unknown leaves out what Apache Kafka is known to do, and says so.
func (b *bench) unknown(t *target, found []checker.Violation) []checker.Violation {
	if t.name != "kafka" {
		return found
	}
	text, err := os.ReadFile(filepath.Join(b.work, "log"))
	skipped := err == nil && bytes.Contains(text, []byte(kafkaSkips))
	told := map[string]int{}
	found = slices.DeleteFunc(slices.Clone(found), func(v checker.Violation) bool {
		why := checkerKnown(v, skipped)
		if why != "" {
			told[fmt.Sprintf("%q: %s", v.Rule, why)]++
		}
		return why != ""
	})
	for _, what := range slices.Sorted(maps.Keys(told)) {
		fmt.Fprintf(b.report.out, "checker: Apache Kafka is known to break (%d times) %s\n", told[what], what)
	}
	return found
}

// judgeChecker turns the counts into a result of the suite: a rule that was broken fails, and in a run of some
// length a rule that was applied to nothing does, too.
func (b *bench) judgeChecker(t *target, c checkerCounts) {
	var err error
	found := b.unknown(t, c.found)
	idle := slices.DeleteFunc(checker.Rules(), func(r checker.Rule) bool { return c.facts[r] > 0 })
	switch {
	case len(found) > 0:
		err = fmt.Errorf("%d violations, the first one: %v", len(found), found[0])
	case len(idle) > 0 && b.replay == "" && b.duration >= checkerWhole:
		err = fmt.Errorf("rules that were applied to nothing: %q", idle)
	}
	b.report.note("checker", t.name, fmt.Sprintf("%d rules, seed %d", len(checker.Rules()), b.seed), c.took, fmt.Sprintf("%d operations", c.operations()), err)
}
