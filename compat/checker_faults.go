package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// checkerFault is one entry of the plan of faults.
type checkerFault struct {
	after time.Duration // since the last one was over
	kind  string        // kill, pause, restart, or quiet
	long  time.Duration // of a pause or a quiet time
}

func (f checkerFault) String() string {
	return fmt.Sprintf("after %v %s %v", f.after, f.kind, f.long)
}

// checkerQuarter is how long a quarter of the plan is, not counting what the faults themselves take.
const checkerQuarter = 5 * time.Second

// checkerPlan is the plan of faults of a seed: quarters, of which one in four is quiet, one has all kinds of
// faults, and the others a random subset.
func checkerPlan(seed uint64, quarters int) (plan []checkerFault) {
	rng := rand.New(rand.NewPCG(seed, 1))
	kinds := []string{"kill", "kill", "pause", "restart"}
	var four [][]string
	for range quarters {
		if len(four) == 0 {
			four = [][]string{nil, kinds, checkerSubset(rng, kinds), checkerSubset(rng, kinds)}
			rng.Shuffle(len(four), func(i, j int) { four[i], four[j] = four[j], four[i] })
		}
		may := four[0]
		four = four[1:]
		if len(may) == 0 {
			plan = append(plan, checkerFault{kind: "quiet", long: checkerQuarter})
			continue
		}
		for left := checkerQuarter; left > 0; {
			f := checkerFault{after: time.Duration(100+rng.IntN(1500)) * time.Millisecond, kind: may[rng.IntN(len(may))]}
			if f.kind == "pause" {
				f.long = time.Duration(100+rng.IntN(1500)) * time.Millisecond
				if rng.IntN(8) == 0 {
					f.long += 4 * time.Second // beyond the time limits of clients
				}
			}
			plan = append(plan, f)
			left -= f.after
		}
	}
	return plan
}

// checkerSubset is a random subset that is not empty.
func checkerSubset(rng *rand.Rand, kinds []string) []string {
	some := slices.DeleteFunc(slices.Clone(kinds), func(string) bool { return rng.IntN(2) == 0 })
	if len(some) == 0 {
		return kinds[rng.IntN(len(kinds)):][:1]
	}
	return some
}

// faults carries out a plan until it or ctx ends. The broker runs afterwards.
func (r *checkerRound) faults(ctx context.Context, plan []checkerFault) error {
	for _, f := range plan {
		if pause(ctx, f.after); ctx.Err() != nil {
			return nil
		}
		r.note("%s %v", f.kind, f.long)
		began := time.Now()
		if err := r.fault(ctx, f); err != nil {
			return fmt.Errorf("%s: %w", f.kind, err)
		}
		if f.kind != "quiet" {
			r.kept.downtime += time.Since(began)
		}
		r.note("%s is over", f.kind)
		if f.kind == "kill" || f.kind == "restart" { // a broker that starts slowly shall have done something before the next one
			pause(ctx, 2*time.Since(began))
		}
	}
	return nil
}

func (r *checkerRound) fault(ctx context.Context, f checkerFault) error {
	end := r.t.Stop
	switch f.kind {
	case "quiet":
		pause(ctx, f.long)
		return nil
	case "pause":
		r.kept.pauses++
		if err := r.t.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		pause(ctx, f.long)
		return r.t.cmd.Process.Signal(syscall.SIGCONT)
	case "kill":
		r.kept.kills++
		end = r.t.Kill
	default:
		r.kept.restarts++
	}
	if !r.t.Alive() {
		return fmt.Errorf("the broker has ended by itself")
	}
	if err := end(); err != nil {
		return err
	}
	if err := r.t.Start(); err != nil {
		return err
	}
	r.tell("restarted")
	return nil
}
