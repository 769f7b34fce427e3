package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is report.json.
type report struct {
	Commit      string  `json:"commit"`
	When        string  `json:"when"`
	Command     string  `json:"command"`
	Kernel      string  `json:"kernel"`
	Go          string  `json:"go"`
	CPUs        int     `json:"cpus"`
	Congestion  string  `json:"congestion_control"`
	Namespace   bool    `json:"private_network_namespace"`
	Kafka       string  `json:"kafka,omitempty"`
	Seconds     float64 `json:"seconds_a_run"`
	Repetitions int     `json:"repetitions"`
	Points      []point `json:"scenarios"`
	Growth      []grown `json:"growth,omitempty"`
}

// point is one scenario.
type point struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Unit    string            `json:"unit"` // of headlines
	Runs    map[string][]run  `json:"runs"`
	Medians map[string]run    `json:"medians"`
	Failed  map[string]string `json:"failed,omitempty"`
	Gate    string            `json:"gate,omitempty"`
	Is      string            `json:"is,omitempty"`
	Held    *bool             `json:"held,omitempty"`

	kind kind
}

// median of each figure by itself.
func median(runs []run) run {
	of := func(f func(*run) float64) float64 {
		all := make([]float64, len(runs))
		for i := range runs {
			all[i] = f(&runs[i])
		}
		slices.Sort(all)
		n := len(all)
		if n%2 == 1 {
			return all[n/2]
		}
		return (all[n/2-1] + all[n/2]) / 2
	}
	return run{
		Seconds:   of(func(r *run) float64 { return r.Seconds }),
		Requests:  int64(of(func(r *run) float64 { return float64(r.Requests) })),
		Records:   int64(of(func(r *run) float64 { return float64(r.Records) })),
		Bytes:     int64(of(func(r *run) float64 { return float64(r.Bytes) })),
		BrokerCPU: of(func(r *run) float64 { return r.BrokerCPU }), ClientCPU: of(func(r *run) float64 { return r.ClientCPU }),
		Foreign: of(func(r *run) float64 { return r.Foreign }), Resident: of(func(r *run) float64 { return r.Resident }),
		P50: of(func(r *run) float64 { return r.P50 }), P99: of(func(r *run) float64 { return r.P99 }),
		P999: of(func(r *run) float64 { return r.P999 }), Max: of(func(r *run) float64 { return r.Max }),
		Value: of(func(r *run) float64 { return r.Value }), Also: medianAlso(runs, of),
	}
}

// medianAlso is the medians of the further figures that all runs have.
func medianAlso(runs []run, of func(func(*run) float64) float64) map[string]float64 {
	var all map[string]float64
	for what := range runs[0].Also {
		if slices.ContainsFunc(runs, func(r run) bool { _, ok := r.Also[what]; return !ok }) {
			continue
		}
		if all == nil {
			all = map[string]float64{}
		}
		all[what] = of(func(r *run) float64 { return r.Also[what] })
	}
	return all
}

// figure writes a number with three digits that count.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.01:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// alsoText tells the further figures, each after a comma.
func (r *run) alsoText() string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(r.Also)) {
		fmt.Fprintf(&b, ", %s %s", figure(r.Also[what]), what)
	}
	return b.String()
}

func (o *outcome) point() point {
	p := point{ID: o.scenario.id, Name: o.scenario.name, Unit: o.scenario.kind.unit(), Runs: o.runs, Medians: map[string]run{}, Failed: o.failed, kind: o.scenario.kind}
	if p.kind == value {
		p.Unit = o.scenario.unit
	}
	for name, runs := range o.runs {
		p.Medians[name] = median(runs)
	}
	if g := o.scenario.gate; g != nil {
		is, ok, known := g.holds(p.Medians)
		if p.Gate = g.text; known {
			p.Is, p.Held = is, &ok
		}
	}
	return p
}

func (k kind) unit() string {
	return [...]string{throughput: "MB/s", requests: "requests/s", latency: "us p99", value: ""}[k]
}

// headline is a run's main figure.
func (k kind) headline(r *run) float64 {
	switch k {
	case throughput:
		return float64(r.Bytes) / 1e6 / r.Seconds
	case requests:
		return float64(r.Requests) / r.Seconds
	case latency:
		return r.P99
	}
	return r.Value
}

// cost is the broker's CPU time for the same work: microseconds a GB, a request, a record, or of the whole run where that is the work; 0 if it is not known.
func (k kind) cost(r *run) float64 {
	switch {
	case r.BrokerCPU == 0:
		return 0
	case k == value:
		return r.BrokerCPU * 1e6
	case k == throughput && r.Bytes > 0:
		return r.BrokerCPU * 1e6 / (float64(r.Bytes) / 1e9)
	case k == requests && r.Requests > 0:
		return r.BrokerCPU * 1e6 / float64(r.Requests)
	case r.Records > 0:
		return r.BrokerCPU * 1e6 / float64(r.Records)
	}
	return 0
}

// costText is the cost as it is written.
func (k kind) costText(r *run) string {
	c := k.cost(r)
	switch {
	case c == 0:
		return "-"
	case k == value:
		return figure(c/1e3) + " ms of CPU"
	case k == throughput:
		return fmt.Sprintf("%.3f s/GB", c/1e6)
	case k == requests:
		return fmt.Sprintf("%.1f us/req", c)
	}
	return fmt.Sprintf("%.2f us/rec", c)
}

// spread is the smallest and the largest headline.
func (p *point) spread(target string) (low, high float64) {
	for i := range p.Runs[target] {
		h := p.kind.headline(&p.Runs[target][i])
		if i == 0 {
			low, high = h, h
		}
		low, high = min(low, h), max(high, h)
	}
	return low, high
}

// names are the targets of the report in the order of the columns.
func (r *report) names() []string {
	var all []string
	for _, p := range r.Points {
		for name := range p.Runs {
			all = append(all, name)
		}
		for name := range p.Failed {
			all = append(all, name)
		}
	}
	rank := func(name string) int { return slices.Index([]string{ours, "kafka", "kfake", "null"}, name) }
	slices.SortFunc(all, func(a, b string) int {
		if ra, rb := rank(a), rank(b); ra != rb {
			return ra - rb
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(all)
}

// table writes report.txt: Markdown, so that it can go into docs.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Commit %s, %s, kernel %s, %s, %d CPUs, %s, private network namespace: %t. Runs of %.0f s, medians of %d.\n\n",
		r.Commit, r.When, r.Kernel, r.Go, r.CPUs, r.Congestion, r.Namespace, r.Seconds, r.Repetitions)
	names := r.names()
	b.WriteString("| scenario | figure |")
	for _, n := range names {
		fmt.Fprintf(&b, " %s |", n)
	}
	b.WriteString(" against Kafka | gate |\n| --- | --- |")
	b.WriteString(strings.Repeat(" ---: |", len(names)+1) + " --- |\n")
	for i := range r.Points {
		p := &r.Points[i]
		fmt.Fprintf(&b, "| %s %s | %s |", p.ID, p.Name, p.Unit)
		for _, n := range names {
			m, ok := p.Medians[n]
			if !ok {
				b.WriteString(" - |")
				continue
			}
			low, high := p.spread(n)
			fmt.Fprintf(&b, " %s (%s-%s), %s%s |", figure(p.kind.headline(&m)), figure(low), figure(high), p.kind.costText(&m), m.alsoText())
		}
		fmt.Fprintf(&b, " %s | %s |\n", p.against("kafka"), p.verdict())
	}
	if len(r.Points) == 0 {
		b.Reset()
	}
	b.WriteString(r.growthTable())
	return b.String()
}

// against tells how ours compares with another: the headline, and the CPU for the same work.
func (p *point) against(other string) string {
	m, ok1 := p.Medians[ours]
	o, ok2 := p.Medians[other]
	if !ok1 || !ok2 || p.kind.headline(&o) == 0 {
		return "-"
	}
	text := fmt.Sprintf("%.2fx", p.kind.headline(&m)/p.kind.headline(&o))
	if c := p.kind.cost(&m); c > 0 && p.kind.cost(&o) > 0 {
		text += fmt.Sprintf(", CPU %.2fx", c/p.kind.cost(&o))
	}
	return text
}

func (p *point) verdict() string {
	switch {
	case p.Gate == "":
		return ""
	case p.Held == nil:
		return p.Gate + ": not judged"
	case *p.Held:
		return fmt.Sprintf("%s: held (%s)", p.Gate, p.Is)
	}
	return fmt.Sprintf("%s: **not held** (%s)", p.Gate, p.Is)
}

// write puts the report into a folder.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	j, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "report.json"), append(j, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "report.txt"), []byte(r.table()), 0o644),
		os.WriteFile(filepath.Join(dir, "report.html"), r.page(), 0o644))
}

func today() string { return time.Now().UTC().Format("2006-01-02 15:04 UTC") }
