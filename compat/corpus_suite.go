package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// feeders and drainers of the corpus, in the order of the table.
func feederNames() []string  { return []string{"kcat", "console-producer", "franz-go"} }
func drainerNames() []string { return []string{"confluent-kafka", "kafkajs", "console-consumer"} }

// flowsTogether is how many feeders or readers of the corpus run at the same time.
const flowsTogether = 2

// corpusWithin is how long one flow of the corpus may take; the whole corpus
// takes the console consumer minutes.
const corpusWithin = 20 * time.Minute

// corpusChecks sends the corpus through every feeder with every codec, and
// reads it back through every reader in groups of one and three. Each reader
// in each size of group reads every codec once, the feeders taking turns.
func (b *bench) corpusChecks(ctx context.Context) error {
	return b.withBroker(ctx, "corpus", func(_ *target, ref *reference) error { return b.corpusFlows(ctx, ref) })
}

func (b *bench) corpusFlows(ctx context.Context, ref *reference) error {
	lines := b.lines
	if b.full {
		lines = 0
	}
	began := time.Now()
	c, err := goCorpus(ctx, filepath.Join(b.work, "corpus.lines"), lines)
	if err != nil {
		return err
	}
	b.report.note("corpus", "Go", "source files", time.Since(began), fmt.Sprintf("%d lines of %d files, SHA-256 %x", c.lines, len(c.keys), c.sum[:8]), nil)

	type flow struct {
		name string
		run  func() (string, error)
		who  string
	}
	var in, out []flow
	for f, from := range feederNames() {
		for i, codec := range codecs() {
			topic := fmt.Sprintf("corpus-%s-%s", from, codec)
			in = append(in, flow{"in, " + codec, func() (string, error) { return b.feedCorpus(ctx, ref, from, topic, codec, c) }, from})
			for d, to := range drainerNames() {
				for g, members := range []int{1, 3} {
					if (i+d+2*g)%len(feederNames()) != f {
						continue
					}
					group := fmt.Sprintf("%s-by-%s-%d", topic, to, members)
					name := fmt.Sprintf("out, %s by %s, group of %d", codec, from, members)
					out = append(out, flow{name, func() (string, error) { return b.drainCorpus(ctx, ref, to, topic, group, members, c) }, to})
				}
			}
		}
	}
	for i, flows := range [][]flow{in, out} {
		turns := make(chan struct{}, flowsTogether)
		var wg sync.WaitGroup
		for _, f := range flows {
			// The readers need what the feeders wrote.
			if i > 0 && !b.wants("corpus", f.who, f.name) {
				continue
			}
			wg.Go(func() {
				turns <- struct{}{}
				defer func() { <-turns }()
				if why := b.find(f.who).missing; why != "" {
					b.report.add(result{suite: "corpus", client: f.who, check: f.name, outcome: notRun, reason: why})
					return
				}
				began := time.Now()
				measure, err := f.run()
				took := time.Since(began)
				b.report.note("corpus", f.who, f.name, took, fmt.Sprintf("%.0f lines/s%s", float64(c.lines)/took.Seconds(), measure), err)
			})
		}
		wg.Wait()
	}
	return ctx.Err()
}

func (b *bench) feedCorpus(ctx context.Context, ref *reference, from, topic, codec string, c *corpus) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, corpusWithin)
	defer cancel()
	if err := ref.create(ctx, topic, checkPartitions); err != nil {
		return "", err
	}
	if err := feedFile(ctx, b.find(from).impl.(feeder), topic, codec, c); err != nil {
		return "", err
	}
	return "", inLog(ctx, ref, topic, codec, c)
}

func (b *bench) drainCorpus(ctx context.Context, ref *reference, to, topic, group string, members int, c *corpus) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, corpusWithin)
	defer cancel()
	d, err := startDrain(b.find(to).impl.(drainer), topic, group, members, filepath.Join(b.work, group), c)
	if err != nil {
		return "", err
	}
	if err := d.finish(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf(", %d members read", d.readers()), errors.Join(d.tally.verdict(false), committed(ctx, ref, topic, group))
}
