package main

import (
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/compat/checker"
)

// TestCheckerPlan: the plan of a seed is always the same, another seed has another one, and of four quarters in a row
// from the beginning one is quiet and one has every kind of fault.
func TestCheckerPlan(t *testing.T) {
	if !reflect.DeepEqual(checkerPlan(7, 12), checkerPlan(7, 12)) {
		t.Error("the plan of a seed changes")
	}
	if reflect.DeepEqual(checkerPlan(7, 12), checkerPlan(8, 12)) {
		t.Error("two seeds have one plan")
	}
	kinds := map[string]int{}
	var long time.Duration
	for _, f := range checkerPlan(7, 40) {
		kinds[f.kind]++
		long += f.after + f.long
		if f.kind == "pause" && (f.long < 100*time.Millisecond || f.long > 6*time.Second) {
			t.Errorf("a pause of %v", f.long)
		}
	}
	if kinds["quiet"] != 10 || kinds["kill"] < 20 || kinds["pause"] < 10 || kinds["restart"] < 10 {
		t.Errorf("faults in 40 quarters: %v", kinds)
	}
	if long < 40*checkerQuarter {
		t.Errorf("40 quarters take %v", long)
	}
}

// TestCheckerProcesses: at least two clients by librdkafka, and members of both protocols.
func TestCheckerProcesses(t *testing.T) {
	var roles []string
	for _, p := range checkerProcesses() {
		roles = append(roles, p.role+p.protocol)
	}
	for _, want := range []string{"plain", "transactional", "memberclassic", "memberconsumer"} {
		if !slices.Contains(roles, want) {
			t.Errorf("no process %s", want)
		}
	}
}

// TestJudgeChecker: a broken rule fails, but for one that Kafka is known to break, and so does an idle rule in a run of a minute.
func TestJudgeChecker(t *testing.T) {
	all := map[checker.Rule]int64{}
	for _, r := range checker.Rules() {
		all[r] = 1
	}
	broken := func(r checker.Rule) []checker.Violation {
		return []checker.Violation{{Rule: r, Partition: -1, Text: "it is"}}
	}
	for _, c := range []struct {
		name, target string
		duration     time.Duration
		counts       checkerCounts
		want         string // in the reason, empty if it passes
	}{
		{"clean", "rotpeter", time.Minute, checkerCounts{facts: all}, ""},
		{"broken", "rotpeter", time.Minute, checkerCounts{facts: all, found: broken(checker.LogStartBack)}, "log start goes back: it is"},
		{"known", "kafka", time.Minute, checkerCounts{facts: all, found: broken(checker.LogStartBack)}, ""},
		{"not known", "kafka", time.Minute, checkerCounts{facts: all, found: broken(checker.Torn)}, "torn"},
		{"not known", "kafka", time.Minute, checkerCounts{facts: all, found: broken(checker.Duplicate)}, "duplicate"},
		{"idle", "rotpeter", time.Minute, checkerCounts{facts: map[checker.Rule]int64{checker.Torn: 1}}, "applied to nothing"},
		{"idle for a short time", "rotpeter", time.Second, checkerCounts{}, ""},
	} {
		b := &bench{options: options{duration: c.duration}, report: &report{out: io.Discard}}
		b.judgeChecker(&target{name: c.target}, c.counts)
		res := b.report.results[0]
		if (res.outcome == failed) != (c.want != "") || c.want != "" && !strings.Contains(res.reason, c.want) {
			t.Errorf("%s: %s %s, want %q", c.name, res.outcome, res.reason, c.want)
		}
	}
}

// TestCheckerKnown: what Kafka is known to do for want of markers is no excuse where its log does not say so, nor for other rules.
func TestCheckerKnown(t *testing.T) {
	for _, c := range []struct {
		v       checker.Violation
		skipped bool
		known   bool
	}{
		{checker.Violation{Rule: checker.LogStartBack}, false, true},
		{checker.Violation{Rule: checker.Torn}, true, true},
		{checker.Violation{Rule: checker.Torn}, false, false},
		{checker.Violation{Rule: checker.LostWrite, Text: "not delivered by the final read with read_committed"}, true, true},
		{checker.Violation{Rule: checker.LostWrite, Text: "not delivered by the final read with read_uncommitted"}, true, false},
		{checker.Violation{Rule: checker.Duplicate}, true, false},
	} {
		if known := checkerKnown(c.v, c.skipped) != ""; known != c.known {
			t.Errorf("%v with skipped markers %v is known: %v", c.v, c.skipped, known)
		}
	}
}
