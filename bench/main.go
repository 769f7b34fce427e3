package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rotpeter/rotpeter/bench/null"
)

// options are the flags.
type options struct {
	targets, scenarios, bin, out string
	repetitions                  int
	seconds                      float64
	quick, noNamespace, list     bool
	profile, growth, noisy       bool
	backlog                      float64 // GiB
	soak                         time.Duration

	congestion string // what connections have
}

func main() {
	var o options
	flag.StringVar(&o.targets, "targets", "rotpeter,kafka,kfake,null", "what to measure, comma-separated: rotpeter, kafka, kfake, null or HOST:PORT")
	flag.StringVar(&o.scenarios, "scenarios", "", "only scenarios whose id or name matches the regular expression")
	flag.StringVar(&o.bin, "binary", "bin/rotpeter", "the broker to measure as rotpeter")
	flag.StringVar(&o.out, "out", "bench/report", "folder for report.json, report.txt and report.html")
	flag.IntVar(&o.repetitions, "repetitions", 5, "runs of each scenario on each broker")
	flag.Float64Var(&o.seconds, "seconds", 10, "measured seconds of a run")
	flag.BoolVar(&o.quick, "quick", false, "a part of the scenarios, three runs of two seconds, without kfake: about five minutes")
	flag.BoolVar(&o.noNamespace, "no-namespace", false, "stay in this network namespace (needed for HOST:PORT)")
	flag.BoolVar(&o.list, "list", false, "list the scenarios")
	flag.BoolVar(&o.profile, "profiles", false, "also keep a CPU profile of rotpeter for each scenario, DIR/ID.pprof (it costs a little speed)")
	flag.BoolVar(&o.growth, "growth", false, "only the assertions of how cost grows, of rotpeter (without -scenarios and -quick they follow the scenarios)")
	flag.BoolVar(&o.noisy, "noisy", false, "do not repeat runs beside which something else was busy")
	flag.Float64Var(&o.backlog, "backlog", 0, "GiB of log of the scenarios that need one: F2 (2 unless told), R1 (1), X2 (20) and the growth with the log's length (4)")
	flag.DurationVar(&o.soak, "soak", 25*time.Minute, "how long X1 goes on")
	serve := flag.String("serve-null", "", "serve as the null broker with its files in this folder (what this program starts itself)")
	flag.Parse()
	os.Exit(start(o, *serve))
}

func start(o options, serve string) int {
	switch {
	case serve != "":
		return serveNull(serve)
	case o.list:
		for _, s := range table() {
			only := ""
			if s.explicit {
				only = " (only by -scenarios)"
			}
			fmt.Printf("%-4s %s%s\n", s.id, s.name, only)
		}
		for _, g := range growthTable() {
			fmt.Printf("%-4s %s (by -growth)\n", g.id, g.name)
		}
		return 0
	case !isolated() && !o.noNamespace && !strings.Contains(o.targets, ":"):
		code, err := isolate()
		if err == nil {
			return code
		}
		fmt.Fprintf(os.Stderr, "no network namespace of its own (%v): measuring in this one, with %s\n", err, firstWord(congestionControl))
	case isolated():
		var err error
		if o.congestion, err = prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
	}
	if o.congestion == "" {
		o.congestion = firstWord(congestionControl)
	}
	if err := measure(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func serveNull(dir string) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		fmt.Println("ready", l.Addr())
		err = (&null.Server{Dir: dir, Partitions: 10}).Serve(l)
	}
	fmt.Fprintln(os.Stderr, "null:", err)
	return 1
}

// chosen are the scenarios of the options.
func chosen(o options) ([]*scenario, error) {
	names, err := regexp.Compile(o.scenarios)
	if err != nil {
		return nil, fmt.Errorf("-scenarios: %w", err)
	}
	all := slices.DeleteFunc(table(), func(s *scenario) bool {
		return !names.MatchString(s.id+" "+s.name) || o.scenarios == "" && (o.quick && !s.quick || s.explicit)
	})
	if len(all) == 0 {
		return nil, fmt.Errorf("no scenario matches %q; -list lists them", o.scenarios)
	}
	return all, nil
}

func measure(o options) error {
	warm := 2 * time.Second
	if o.quick {
		o.repetitions, o.seconds, warm = 3, 2, time.Second
		o.targets = strings.ReplaceAll(o.targets, ",kfake", "")
	}
	var scenarios []*scenario
	if !o.growth {
		var err error
		if scenarios, err = chosen(o); err != nil {
			return err
		}
	}
	ts, err := targets(strings.Split(o.targets, ","))
	if err != nil {
		return err
	}
	if _, err := os.Stat(o.bin); err != nil && strings.Contains(o.targets, ours) {
		return fmt.Errorf("%w: make build first, or name it with -binary", err)
	}
	scratch, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{
		tools: &tools{bin: o.bin, scratch: scratch, log: io.Discard, profile: o.profile}, out: o.out, targets: ts, repetitions: o.repetitions,
		seconds: time.Duration(o.seconds * float64(time.Second)), warm: warm, noisy: o.noisy, backlog: int64(o.backlog * (1 << 30)), soak: o.soak,
		say: func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
	}
	r := describe(o)
	if err := b.all(ctx, scenarios, r); err != nil {
		return err
	}
	if o.growth || o.scenarios == "" && !o.quick && strings.Contains(o.targets, ours) {
		if err := b.grow(ctx, o.scenarios, r); err != nil {
			return err
		}
	}
	fmt.Printf("\n%s\n%s/report.html has the plots\n", r.table(), o.out)
	return nil
}

// all measures the scenarios, and writes what there is after each of them, in case it is interrupted.
func (b *bench) all(ctx context.Context, scenarios []*scenario, r *report) error {
	began := time.Now()
	for i, s := range scenarios {
		left := ""
		if i > 0 {
			left = fmt.Sprintf(", about %v left", (time.Since(began) / time.Duration(i) * time.Duration(len(scenarios)-i)).Round(time.Second))
		}
		b.say("%s %s (%d of %d%s)", s.id, s.name, i+1, len(scenarios), left)
		outcome, err := b.measure(ctx, s)
		if err != nil {
			return err
		}
		r.Points = append(r.Points, outcome.point())
		if err := r.write(b.out); err != nil {
			return err
		}
	}
	return nil
}

// describe says where and how it was measured.
func describe(o options) *report {
	r := &report{
		When: today(), Command: "bench " + strings.Join(os.Args[1:], " "), Kernel: firstWord("/proc/sys/kernel/osrelease"), Go: runtime.Version(),
		CPUs: runtime.NumCPU(), Congestion: o.congestion, Namespace: isolated(), Seconds: o.seconds, Repetitions: o.repetitions, Commit: "unknown",
	}
	if out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	return r
}
