package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// growth is an assertion that a cost does not grow, or hardly, when something else does. Both costs are measured in turn, so
// that a drift of the machine meets both.
type growth struct {
	id, name    string
	base, grown string // what is compared
	unit        string
	most        float64 // the ratio
	// prepare starts what is needed, and answers how to measure one of each once; end gives back what was started.
	prepare func(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error)
}

// grown is what came of one.
type grown struct {
	ID    string    `json:"id"`
	Name  string    `json:"name"`
	Unit  string    `json:"unit"`
	Small []float64 `json:"base_runs"`
	Large []float64 `json:"grown_runs"`
	Base  float64   `json:"base"` // medians
	Grown float64   `json:"grown"`
	Ratio float64   `json:"ratio"`
	Most  float64   `json:"at_most"`
	Held  bool      `json:"held"`
	Error string    `json:"error,omitempty"`
}

// judge makes the medians and holds their ratio against the limit.
func (g *growth) judge(small, large []float64) grown {
	r := grown{ID: g.id, Name: g.name + ": " + g.base + ", " + g.grown, Unit: g.unit, Small: small, Large: large, Most: g.most}
	r.Base, r.Grown = middle(small), middle(large)
	if r.Base > 0 {
		r.Ratio = r.Grown / r.Base
		r.Held = r.Ratio <= g.most
	}
	return r
}

// middle is the median, 0 of none.
func middle(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return all[n/2]
	}
	return (all[n/2-1] + all[n/2]) / 2
}

// grow measures all assertions whose id or name matches.
func (b *bench) grow(ctx context.Context, only string, r *report) error {
	names, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-scenarios: %w", err)
	}
	for _, g := range growthTable() {
		if !names.MatchString(g.id + " " + g.name) {
			continue
		}
		b.say("%s %s: %s, %s", g.id, g.name, g.base, g.grown)
		result, err := b.compare(ctx, g)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			result = grown{ID: g.id, Name: g.name, Unit: g.unit, Most: g.most, Error: err.Error()}
			b.say("  failed: %v", err)
		} else {
			b.say("  %s and %s %s: %.2fx, at most %.2fx", figure(result.Base), figure(result.Grown), g.unit, result.Ratio, g.most)
		}
		r.Growth = append(r.Growth, result)
		if err := r.write(b.out); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) compare(ctx context.Context, g *growth) (grown, error) {
	b.growing = g.id
	small, large, end, err := g.prepare(b, ctx)
	if end != nil {
		defer end()
	}
	if err != nil {
		return grown{}, err
	}
	defer func() { b.which = "" }()
	var figures [2][]float64
	for i := range b.repetitions {
		for j := range 2 {
			which := (i + j) % 2
			b.which = [...]string{"-base", "-grown"}[which]
			v, err := [2]func() (float64, error){small, large}[which]()
			if err != nil {
				return grown{}, err
			}
			figures[which] = append(figures[which], v)
		}
	}
	return g.judge(figures[0], figures[1]), nil
}

// growthTable is the part of report.txt about growth.
func (r *report) growthTable() string {
	if len(r.Growth) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nHow cost grows (rotpeter; both sides in one run, in turn):\n\n| what | base | grown | ratio | at most | |\n| --- | ---: | ---: | ---: | ---: | --- |\n")
	for _, g := range r.Growth {
		verdict := "**not held**"
		switch {
		case g.Error != "":
			verdict = "failed: " + g.Error
		case g.Held:
			verdict = "held"
		}
		fmt.Fprintf(&b, "| %s %s | %s %s | %s | %.2fx | %.2fx | %s |\n", g.ID, g.Name, figure(g.Base), g.Unit, figure(g.Grown), g.Ratio, g.Most, verdict)
	}
	return b.String()
}
