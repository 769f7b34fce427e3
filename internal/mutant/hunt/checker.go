package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/rotpeter/rotpeter/internal/mutant"
)

// brokenRule finds the checker's line about a rule that does not hold.
func brokenRule() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^  (.+?) +applied to +\d+ +broken +[1-9]`)
}

// check has the workload checker look for the bugs that clients can see, and answers how many it did not find. Without a
// bug it must find nothing.
func (s *suite) check(ctx context.Context, bugs []mutant.Bug, most time.Duration) (missed int, err error) {
	bin, compat := filepath.Join(s.dir, "rotpeter"), filepath.Join(s.dir, "compat")
	for _, build := range [][]string{{"build", "-tags", "mutants", "-o", bin, "./cmd/rotpeter"}, {"build", "-o", compat, "./compat"}} {
		if out, err := exec.CommandContext(ctx, "go", build...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build for the checker: %w\n%s", err, out)
		}
	}
	for _, b := range append([]mutant.Bug{{Wrong: "no bug", Outside: true}}, bugs...) {
		if !b.Outside {
			continue
		}
		began := time.Now()
		cmd := exec.CommandContext(ctx, compat, "-suite", "checker", "-bin", bin, "-duration", most.String(), "-stop-at-first", "-seed", "1")
		cmd.Env = append(os.Environ(), mutant.Variable+"="+string(b.Name))
		out, err := cmd.CombinedOutput()
		took := time.Since(began).Seconds()
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) || ctx.Err() != nil {
			return missed, errors.Join(err, ctx.Err())
		}
		rule := brokenRule().FindSubmatch(out)
		switch {
		case b.Name == "" && err != nil:
			return missed, fmt.Errorf("the checker fails without a bug:\n%s", out)
		case b.Name == "":
			fmt.Printf("checker    %-24s %7.1f s  passes\n", "without a bug", took)
		case err == nil || rule == nil:
			missed++
			fmt.Printf("NOT CAUGHT %-24s %7.1f s  checker: %s\n", b.Name, took, b.Wrong)
		default:
			fmt.Printf("checker    %-24s %7.1f s  %s: %s\n", b.Name, took, rule[1], b.Wrong)
		}
	}
	return missed, nil
}
