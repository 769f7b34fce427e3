package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	target string
	bin    string
	suites []string // empty = all
	only   *regexp.Regexp
	lines  int
	full   bool
	seed   uint64
	keep   bool
	record string
	golden bool
	jars   bool

	duration time.Duration // of the suite checker
	first    bool          // it ends at the first violation
	replay   string        // it judges this history instead
	rounds   time.Duration // run the suites again until it is over; 0: once
	race     bool          // the binary has the race detector
}

// bench is one run: the broker under test, the clients and the results.
type bench struct {
	options
	source  string // folder of compat's own files
	work    string // temporary folder of this run
	cache   *cache
	clients []client
	java    *javaTools   // nil where Java is not to be had
	classes *javaClasses // nil likewise, and before the suites transactions and groups
	report  *report
	log     io.Writer // the output of brokers and clients
	dirs    []string  // data directories left behind by stopped brokers, for kafka-dump-log
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func parseFlags() (o options, verbose bool, err error) {
	only := flag.String("only", "", "run only the checks whose name, `suite/client/check`, matches this regular expression")
	suites := flag.String("suite", "", "comma-separated suites to run (default all but checker)")
	flag.StringVar(&o.target, "target", "rotpeter", "what to test: rotpeter, or kafka (Apache Kafka, the judge of the checks)")
	flag.StringVar(&o.bin, "bin", "bin/rotpeter", "the built binary")
	flag.IntVar(&o.lines, "lines", 100_000, "lines of the corpus")
	flag.BoolVar(&o.full, "full", false, "the whole corpus, about two million lines, whatever -lines says")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the mutations of the hostile suite, and of the clients and faults of the suite checker")
	flag.DurationVar(&o.duration, "duration", time.Minute, "how long the suite checker runs")
	flag.BoolVar(&o.first, "stop-at-first", false, "the suite checker ends at the first violation")
	flag.StringVar(&o.replay, "replay", "", "the suite checker judges the history in this `file`, which an earlier run kept, and runs nothing")
	flag.BoolVar(&o.keep, "keep", false, "keep the temporary folder")
	flag.StringVar(&o.record, "record", "", "keep a request of each kind that the clients send in this `folder`")
	flag.BoolVar(&o.golden, "golden", false, "write the answers into the scripts of the suite answers: Kafka's with -target kafka, else ours where they are others on purpose")
	flag.BoolVar(&o.jars, "jars", false, "install Apache Kafka's jars if need be, print their class path, and do nothing else")
	flag.DurationVar(&o.rounds, "for", 0, "run the suites again and again until so long has passed, 10m for one")
	flag.BoolVar(&o.race, "race", false, "the binary is built with -race: tell also that it reported nothing")
	flag.BoolVar(&verbose, "v", false, "say what passed, too")
	flag.Parse()
	if *suites != "" {
		o.suites = strings.Split(*suites, ",")
	}
	o.only, err = regexp.Compile(*only)
	if err == nil && o.target != "rotpeter" && o.target != "kafka" {
		err = fmt.Errorf("unknown target %q", o.target)
	}
	return o, verbose, err
}

func run(ctx context.Context) (ok bool, err error) {
	o, verbose, err := parseFlags()
	if err != nil {
		return false, err
	}
	b := &bench{options: o, source: "compat", report: &report{out: os.Stdout, verbose: verbose}}
	if _, err := os.Stat(filepath.Join(b.source, "java", "pom.xml")); err != nil {
		return false, fmt.Errorf("run it from the top folder of the project: %w", err)
	}
	if b.source, err = filepath.Abs(b.source); err != nil {
		return false, err
	}
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return false, err
	}
	if b.work, err = os.MkdirTemp("", "compat-"); err != nil {
		return false, err
	}
	logFile, err := os.Create(filepath.Join(b.work, "log"))
	if err != nil {
		return false, err
	}
	defer logFile.Close()
	b.log = logFile
	user, err := os.UserCacheDir()
	if err != nil {
		return false, err
	}
	b.cache = &cache{dir: filepath.Join(user, "rotpeter"), source: b.source, log: b.log}
	if o.jars {
		j, err := b.cache.java()
		if err == nil {
			fmt.Println(strings.Join(j.jars, ":"))
			err = os.RemoveAll(b.work)
		}
		return true, err
	}

	began := time.Now()
	if err := b.runRounds(ctx); err != nil {
		return false, fmt.Errorf("%w (see %s)", err, logFile.Name())
	}
	strict := os.Getenv("CI") == "true"
	ok = b.report.print(strict)
	fmt.Fprintf(os.Stderr, "compat took %.0fs\n", time.Since(began).Seconds())
	if o.keep || !ok {
		fmt.Fprintf(os.Stderr, "logs and data are in %s\n", b.work)
		return ok, nil
	}
	return ok, os.RemoveAll(b.work)
}

// wants says whether -only lets a check run.
func (o options) wants(suite, client, check string) bool {
	return o.only.MatchString(suite + "/" + client + "/" + check)
}

// runSuites runs the suites in their order.
func (b *bench) runSuites(ctx context.Context) error {
	for _, s := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"startup", b.startup},
		{"answers", b.answersChecks},
		{"clients", b.clientChecks},
		{"corpus", b.corpusChecks},
		{"kill", b.killChecks},
		{"swap", b.swapChecks},
		{"compaction", b.compactionChecks},
		{"metadata", b.metadataChecks},
		{"features", b.featuresChecks},
		{"transactions", b.transactionChecks},
		{"dump", b.dumpChecks},
		{"check", b.inspectChecks},
		{"groups", b.groupsChecks},
		{"hostile", b.hostileChecks},
		{"checker", b.checkerChecks},
	} {
		if len(b.suites) > 0 && !slices.Contains(b.suites, s.name) {
			continue
		}
		began := time.Now()
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stderr, "suite %s took %.0fs\n", s.name, time.Since(began).Seconds())
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
