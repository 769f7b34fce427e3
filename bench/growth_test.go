package main

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The ratio is of medians, and one without a base holds nothing.
func TestJudge(t *testing.T) {
	g := &growth{id: "G", name: "n", base: "few", grown: "many", unit: "us", most: 1.5}
	if r := g.judge([]float64{30, 10, 20}, []float64{28, 100, 30}); r.Base != 20 || r.Grown != 30 || r.Ratio != 1.5 || !r.Held {
		t.Errorf("%+v", r)
	}
	if r := g.judge([]float64{10, 20}, []float64{40, 50}); r.Base != 15 || r.Grown != 45 || r.Held {
		t.Errorf("%+v", r)
	}
	if r := g.judge(nil, []float64{1}); r.Held || r.Ratio != 0 {
		t.Errorf("without a base: %+v", r)
	}
}

// Assertions have ids of their own, and are complete.
func TestGrowthTable(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range table() {
		seen[s.id] = true
	}
	for _, g := range growthTable() {
		if seen[g.id] || g.prepare == nil || g.most < 1 || g.base == "" || g.grown == "" || g.unit == "" {
			t.Errorf("%+v", g)
		}
		seen[g.id] = true
	}
}

// Scenarios with a measure of their own say in what unit; those with settings or restarts leave out who has none.
func TestScenariosOfLives(t *testing.T) {
	for _, s := range table() {
		if (s.kind == value) != (s.unit != "") {
			t.Errorf("%s: kind %d, unit %q", s.id, s.kind, s.unit)
		}
		if (s.fresh || len(s.settings) > 0) && (s.skip == nil || !s.skip("127.0.0.1:9092")) {
			t.Errorf("%s asks a broker elsewhere for what it cannot have", s.id)
		}
		if s.explicit && s.quick {
			t.Errorf("%s is quick, and only by its name", s.id)
		}
	}
}

// Soaks run only when they are asked for.
func TestExplicit(t *testing.T) {
	has := func(o options, id string) bool {
		all, err := chosen(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.id == id {
				return true
			}
		}
		return false
	}
	if has(options{}, "X1") || has(options{quick: true}, "X1") || !has(options{scenarios: "^X1"}, "X1") || !has(options{}, "R1") {
		t.Error("X1 runs unasked, or not at all")
	}
}

// The report has both parts.
func TestReportOfGrowth(t *testing.T) {
	s := &scenario{id: "C", name: "idle", kind: value, unit: "KiB", gate: valueAtMost(12, "KiB")}
	r := run{Value: 7.184, BrokerCPU: 0.0123}
	r.also("MB resident", 55.25)
	r2 := r
	r2.Also = map[string]float64{"MB resident": 57.25, "of this run alone": 1}
	o := &outcome{s, map[string][]run{ours: {r, r2}}, nil}
	rep := &report{Points: []point{o.point()}, Growth: []grown{
		(&growth{id: "GX", name: "cost", base: "1", grown: "<10>", unit: "us", most: 1.1}).judge([]float64{10}, []float64{10.5}), {ID: "GY", Name: "broken", Error: "it would not"},
	}}
	text := rep.table()
	for _, want := range []string{
		"| KiB | 7.18 (7.18-7.18), 12.3 ms of CPU, 56.2 MB resident |", "held (7.18 KiB)", "| GX cost: 1, <10> | 10.0 us | 10.5 | 1.05x | 1.10x | held |", "failed: it would not",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if page := string(rep.page()); !strings.Contains(page, "GX: cost: 1, &lt;10&gt;") || strings.Contains(page, "<10>") {
		t.Error("the page does not tell of growth, or does not escape")
	} else if d := xml.NewDecoder(strings.NewReader(page)); d != nil {
		d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
		if _, err := d.Token(); err != nil && err != io.EOF {
			t.Error(err)
		}
	}
	rep.Points = nil
	if text := rep.table(); strings.Contains(text, "scenario") {
		t.Errorf("a report of growth alone:\n%s", text)
	}
}

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0012: "0.0012", 0.5: "0.50", 7.184: "7.18", 12.34: "12.3", 123.4: "123", 12345: "12345", -3.2: "-3.20"} {
		if got := figure(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// Recovery points are read from Kafka's file, wherever the broker has its data.
func TestRecoveryPoints(t *testing.T) {
	for _, sub := range []string{"", "data"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, sub, "recovery-point-offset-checkpoint")
		if err := os.WriteFile(file, []byte("0\n3\nt 0 17\nt-1 0 5\nt 12 900\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := recoveryPoints(dir, "t")
		if err != nil || len(got) != 2 || got[0] != 17 || got[12] != 900 {
			t.Errorf("in %q: %v, %v", sub, got, err)
		}
	}
	if got, err := recoveryPoints(t.TempDir(), "t"); err != nil || len(got) != 0 {
		t.Errorf("without a file: %v, %v", got, err)
	}
}

// What Kafka's tools print is understood.
func TestPerfTools(t *testing.T) {
	records, rate, err := parseProducerPerf("40000 records sent, 20000.0 records/sec (19.07 MB/sec), 12.3 ms avg latency, 95.0 ms max latency.\n" +
		"100000 records sent, 48123.195380 records/sec (45.89 MB/sec), 4.51 ms avg latency, 166.00 ms max latency, 3 ms 50th, 12 ms 95th, 40 ms 99th, 88 ms 99.9th.\n")
	if err != nil || records != 100000 || rate != 48123.195380 {
		t.Errorf("producer: %d records, %v a second, %v", records, rate, err)
	}
	if _, _, err := parseProducerPerf("Exception in thread main"); err == nil {
		t.Error("no error for a producer that failed")
	}
	records, fetching, err := parseConsumerPerf("start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n" +
		"2026-11-27 23:00:00:100, 2026-11-27 23:00:04:200, 95.3674, 23.2603, 100000, 24390.2439, 3500, 600, 158.9457, 166666.6667\n")
	if err != nil || records != 100000 || fetching != 600*time.Millisecond {
		t.Errorf("consumer: %d records in %v, %v", records, fetching, err)
	}
	if _, _, err := parseConsumerPerf("no records"); err == nil {
		t.Error("no error for a consumer that failed")
	}
}

// A process's files are found, and cooling them does no harm to what is in them.
func TestCool(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "sub", "file")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, make([]byte, 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := cool(dir, true); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || len(b) != 100_000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if n, err := descriptorsOf(os.Getpid()); err != nil || n < 3 {
		t.Errorf("%d descriptors, %v", n, err)
	}
	if _, err := readOf(os.Getpid()); err != nil {
		t.Error(err)
	}
}
