// Command hunt shows that the tests see the seeded bugs of package mutant, each of
// them by itself, and how fast:
//
//	go run ./internal/mutant/hunt [-only REGEXP] [-crashes REGEXP] [-checker DURATION] [-list]
//
// Run it in the root of the project; `make mutants` does. It builds the tests of the
// rooms once with the tag "mutants", and then for each bug runs those of its own
// room, then those of the whole broker, until one fails. That test has to pass without
// the bug. It exits with 1 if a bug was not caught, or a test fails by itself. With -checker
// the workload checker (compat) looks for those bugs, too, that clients can see.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/rotpeter/rotpeter/internal/mutant"
)

func main() {
	os.Exit(run())
}

func run() int {
	only := flag.String("only", "", "hunt only bugs whose name matches the regular expression")
	crashes := flag.String("crashes", "^$", "tests that take long, by regular expression: they run only for bugs that the others let pass")
	checker := flag.Duration("checker", 0, "also let the workload checker look, at most for so long, for bugs that clients can see")
	list := flag.Bool("list", false, "list the bugs")
	flag.Parse()
	names, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "-only:", err)
		return 2
	}
	bugs := slices.DeleteFunc(mutant.Bugs(), func(b mutant.Bug) bool { return !names.MatchString(string(b.Name)) })
	if *list {
		for _, b := range bugs {
			fmt.Printf("%-24s %-18s %s\n", b.Name, b.Room, b.Wrong)
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := newSuite(ctx, bugs, *crashes)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer s.close()
	missed := 0
	began := time.Now()
	for _, b := range bugs {
		c, err := s.hunt(ctx, b)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", b.Name, err)
			return 1
		}
		if c.test == "" {
			missed++
			fmt.Printf("NOT CAUGHT %-24s %7.1f s  %s: %s\n", b.Name, c.took.Seconds(), b.Room, b.Wrong)
			continue
		}
		fmt.Printf("caught     %-24s %7.1f s  %s %s: %s\n", b.Name, c.took.Seconds(), c.room, c.test, b.Wrong)
	}
	fmt.Printf("%d of %d seeded bugs were caught in %.0f s\n", len(bugs)-missed, len(bugs), time.Since(began).Seconds())
	if *checker > 0 {
		n, err := s.check(ctx, bugs, *checker)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		missed += n
	}
	if missed > 0 || len(bugs) == 0 {
		return 1
	}
	return 0
}
