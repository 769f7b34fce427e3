package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// outcome of a check. The zero value means that the client cannot do the check.
type outcome string

const (
	passed outcome = "passed"
	failed outcome = "FAILED"
	notRun outcome = "not run"
)

// result is a cell of a suite's table.
type result struct {
	suite, client, check string
	outcome              outcome
	reason               string // why it failed or was not run; a measure if it passed
	took                 time.Duration
}

// report collects results, says each as it comes and prints the tables.
type report struct {
	out     io.Writer
	verbose bool

	mu      sync.Mutex
	results []result
}

func (r *report) add(res result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, res)
	if res.outcome == "" || !r.verbose && res.outcome == passed {
		return
	}
	fmt.Fprintf(r.out, "%-7s %s / %s / %s (%.1fs) %s\n", res.outcome, res.suite, res.client, res.check, res.took.Seconds(), res.reason)
}

// note adds a check that stands alone, with what it measured or why it failed.
func (r *report) note(suite, client, check string, took time.Duration, measure string, err error) {
	res := result{suite: suite, client: client, check: check, outcome: passed, reason: measure, took: took}
	if err != nil {
		res.outcome, res.reason = failed, err.Error()
	}
	r.add(res)
}

// print prints a table for each suite and a last line of counts, and answers
// whether the run as a whole passed. strict makes "not run" a failure.
func (r *report) print(strict bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var suites []string
	count := map[outcome]int{}
	for _, res := range r.results {
		if !slices.Contains(suites, res.suite) {
			suites = append(suites, res.suite)
		}
		count[res.outcome]++
	}
	for _, suite := range suites {
		if suite == "clients" || strings.HasPrefix(suite, "group ") {
			r.matrix(suite)
		} else {
			r.list(suite)
		}
	}
	for _, res := range r.results {
		if res.outcome == failed || res.outcome == notRun {
			fmt.Fprintf(r.out, "%s: %s / %s / %s: %s\n", res.outcome, res.suite, res.client, res.check, res.reason)
		}
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", count[passed], count[failed], count[notRun])
	return count[failed] == 0 && count[passed] > 0 && (!strict || count[notRun] == 0)
}

// matrix prints checks down and clients across; across are the phases instead where they are what a scenario goes through.
func (r *report) matrix(suite string) {
	var clients, checks []string
	cells := map[[2]string]outcome{}
	for _, res := range r.results {
		if res.suite != suite {
			continue
		}
		if !slices.Contains(clients, res.client) {
			clients = append(clients, res.client)
		}
		if !slices.Contains(checks, res.check) {
			checks = append(checks, res.check)
		}
		cells[[2]string{res.check, res.client}] = res.outcome
	}
	if suite == "clients" {
		slices.Sort(clients)
	}
	fmt.Fprintf(r.out, "\n%s\n", suite)
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\t%s\n", strings.Join(clients, "\t"))
	for _, check := range checks {
		fmt.Fprint(w, check)
		for _, c := range clients {
			cell := cells[[2]string{check, c}]
			if cell == "" {
				cell = "-"
			}
			fmt.Fprintf(w, "\t%s", cell)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// list prints a result a line.
func (r *report) list(suite string) {
	fmt.Fprintf(r.out, "\n%s\n", suite)
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	for _, res := range r.results {
		if res.suite == suite {
			reason := res.reason
			if res.outcome != passed {
				reason = "" // below, whole
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%.1fs\t%s\n", res.client, res.check, res.outcome, res.took.Seconds(), reason)
		}
	}
	w.Flush()
}
