package main

import (
	"encoding/xml"
	"os"
	"strings"
	"testing"
)

// The median is of each figure by itself.
func TestMedian(t *testing.T) {
	m := median([]run{{Bytes: 1, P99: 30}, {Bytes: 5, P99: 10}, {Bytes: 3, P99: 20}})
	if m.Bytes != 3 || m.P99 != 20 {
		t.Errorf("of three: %+v", m)
	}
	if m := median([]run{{P99: 10}, {P99: 20}}); m.P99 != 15 {
		t.Errorf("of two: %+v", m)
	}
}

func sample() *report {
	fast := run{Seconds: 1, Bytes: 200e6, Requests: 2000, BrokerCPU: 0.08, P99: 100}
	slow := run{Seconds: 1, Bytes: 100e6, Requests: 1000, BrokerCPU: 0.1, P99: 400}
	o := &outcome{
		&scenario{id: "X", name: "an <example>", kind: throughput, gate: cpuPerGB(0.5)},
		map[string][]run{ours: {fast, fast}, "kafka": {slow}}, map[string]string{"kfake": "it would not"},
	}
	l := &outcome{&scenario{id: "L", name: "latency", kind: latency, gate: latencyAgainst()}, map[string][]run{ours: {fast}, "kafka": {slow}, "null": {fast}}, nil}
	return &report{Commit: "abc", Points: []point{o.point(), l.point()}}
}

// The table has the figures, the ratios and the verdicts.
func TestTable(t *testing.T) {
	got := sample().table()
	for _, want := range []string{
		"| rotpeter | kafka | kfake | null | against Kafka |",
		"| 200 (200-200), 0.400 s/GB | 100 (100-100), 1.000 s/GB | - | - | 2.00x, CPU 0.40x | at most 0.50 CPU-s/GB: held (0.400 CPU-s/GB) |",
		"| 0.25x", "held (1.00 of the null broker's, 0.25 of Kafka's)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// The page's plots are well-formed, and names are escaped.
func TestPage(t *testing.T) {
	page := string(sample().page())
	if strings.Contains(page, "<example>") || !strings.Contains(page, "it would not") {
		t.Error("the scenario's name is not escaped, or a failure is not told")
	}
	plots := strings.Split(page, "<svg")
	if len(plots) != 3 {
		t.Fatalf("%d plots", len(plots)-1)
	}
	for _, p := range plots[1:] {
		svg, _, _ := strings.Cut("<svg"+p, "</svg>")
		if err := xml.Unmarshal([]byte(svg+"</svg>"), new(any)); err != nil && !strings.Contains(err.Error(), "unknown type") {
			t.Error(err)
		}
	}
}

// Every scenario has an id of its own and a way to run, and a quick run has one of each family.
func TestScenarios(t *testing.T) {
	seen := map[string]bool{}
	quick := map[byte]bool{}
	for _, s := range table() {
		if seen[s.id] || s.run == nil || s.name == "" {
			t.Errorf("scenario %q %q", s.id, s.name)
		}
		seen[s.id] = true
		if s.quick {
			quick[s.id[0]] = true
		}
	}
	if !quick['P'] || !quick['F'] || !quick['E'] {
		t.Errorf("a quick run has %v", quick)
	}
}

// What the kernel says of this process grows with what it does.
func TestReadings(t *testing.T) {
	from, err := read(0)
	if err != nil {
		t.Fatal(err)
	}
	var to reading
	for to.client <= from.client || to.total <= from.total { // reading is work, too
		if to, err = read(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if to.broker > to.client || from.foreign(to) < 0 {
		t.Errorf("from %+v to %+v", from, to)
	}
	if n, err := residentOf(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("resident %d, %v", n, err)
	}
	if available() < 1<<20 {
		t.Errorf("%d bytes are available", available())
	}
}
