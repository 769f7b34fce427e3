package checker

import (
	"fmt"
	"strings"
)

// Rule is the name of what must not be. Names of the literature (Adya, Jepsen) are in brackets.
type Rule string

const (
	LostWrite         Rule = "lost write"                      // acknowledged, at or below the highest offset read, and not read
	Unseen            Rule = "unseen write"                    // acknowledged above that, and not delivered by the final read
	Duplicate         Rule = "duplicate"                       // one value at two offsets, by a producer with idempotence
	TwoValues         Rule = "one offset with two values"      // [inconsistent offsets]
	UnsentRead        Rule = "a value that nobody sent"        // or that was sent to another partition
	NonMonotonicSend  Rule = "non-monotonic send"              // a producer's values in another order than it sent them
	SpuriousZero      Rule = "spurious offset 0"               // acknowledged at 0, where another value is
	SkipInPoll        Rule = "skip inside a poll"              // [int-poll-skip]
	SkipBetween       Rule = "skip between polls"              // [poll-skip]
	BackInPoll        Rule = "step back inside a poll"         // [int-nonmonotonic-poll]
	BackBetween       Rule = "step back between polls"         // [nonmonotonic-poll]
	AbortedRead       Rule = "aborted read"                    // [G1a] read_committed shows what was aborted, failed or is not yet committed
	OwnRead           Rule = "a transaction's own unsent read" // [precommitted read]
	Cycle             Rule = "write-read cycle"                // [G1c]
	Torn              Rule = "torn transaction"                // a part is seen and a part is not
	Hanging           Rule = "hanging transaction"             // the last stable offset does not reach the end when all is over
	LogStartBack      Rule = "log start goes back"             // across a restart, or at any time
	StableBack        Rule = "last stable offset goes back"    // likewise, or is below what was read with read_committed
	HighWatermarkBack Rule = "high watermark goes back"        // likewise, or is below what was acknowledged or read
	LostCommit        Rule = "lost group commit"               // an acknowledged commit of a group that a later fetch does not show
	ReusedProducer    Rule = "reused producer id"
	LostKey           Rule = "compaction lost a last value"
)

// Rules lists all rules in the order of reports.
func Rules() []Rule {
	return []Rule{LostWrite, Unseen, Duplicate, TwoValues, UnsentRead, NonMonotonicSend, SpuriousZero,
		SkipInPoll, SkipBetween, BackInPoll, BackBetween, AbortedRead, OwnRead, Cycle, Torn, Hanging,
		LogStartBack, StableBack, HighWatermarkBack, LostCommit, ReusedProducer, LostKey}
}

// Violation is one breach of a rule.
type Violation struct {
	Rule      Rule
	Partition int32    // -1 where it concerns none, or several
	Offsets   []int64  // of the partition
	Values    []Value  // concerned
	Clients   []string // concerned
	Text      string   // a sentence of what was seen
}

func (v Violation) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %s", v.Rule, v.Text)
	if v.Partition >= 0 {
		fmt.Fprintf(&s, "; partition %d", v.Partition)
	}
	if len(v.Offsets) > 0 {
		fmt.Fprintf(&s, " offsets %v", v.Offsets)
	}
	if len(v.Values) > 0 {
		fmt.Fprintf(&s, " values %v", v.Values)
	}
	if len(v.Clients) > 0 {
		fmt.Fprintf(&s, " clients %s", strings.Join(v.Clients, ", "))
	}
	return s.String()
}

// maxViolations bounds what is kept: a broken broker breaks rules by the thousand.
const maxViolations = 200

// judge counts what the rules were applied to and keeps what broke them.
type judge struct {
	facts      map[Rule]int64
	violations []Violation
	more       int64 // violations beyond the bound
}

func (j *judge) fact(r Rule) { j.facts[r]++ }

func (j *judge) breach(v Violation) {
	if len(j.violations) < maxViolations {
		j.violations = append(j.violations, v)
	} else {
		j.more++
	}
}

// Violations are the breaches found up to now, the first ones if there are very many.
func (h *History) Violations() []Violation { return h.violations }

// Facts answers how often each rule was applied: a rule with none has judged nothing.
func (h *History) Facts() map[Rule]int64 { return h.facts }
