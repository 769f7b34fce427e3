package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	kills = 3
	// killFeed is how long the feeders take to write the corpus when nothing
	// goes wrong: slow enough that each kill hits records on their way.
	killFeed = 8 * time.Second
	// killWithin bounds the whole suite.
	killWithin = 10 * time.Minute
)

// killPair is a feeder and the group that reads its topic at the same time.
type killPair struct {
	from, codec, to string
	members         int

	fed   atomic.Int64 // lines given to the feeder
	drain *drain
	err   error
}

func (p *killPair) topic() string { return "killed-" + p.from }
func (p *killPair) group() string { return p.topic() + "-by-" + p.to }

// killChecks writes the corpus and reads it in groups while the broker is
// killed with SIGKILL and restarted three times. The log then holds every line
// once and in order; the groups went on from their commits and saw every line.
func (b *bench) killChecks(ctx context.Context) error {
	return b.withBroker(ctx, "kill", func(t *target, ref *reference) error {
		ctx, cancel := context.WithTimeout(ctx, killWithin)
		defer cancel()
		lines := b.lines / 2
		if b.full {
			lines = 0
		}
		c, err := goCorpus(ctx, filepath.Join(b.work, "kill-corpus.lines"), lines)
		if err != nil {
			return err
		}
		pairs := []*killPair{
			{from: "kcat", codec: "zstd", to: "confluent-kafka", members: 3},
			{from: "console-producer", codec: "lz4", to: "kafkajs", members: 1},
			{from: "franz-go", codec: "snappy", to: "console-consumer", members: 3},
		}
		var able []*killPair
		for _, p := range pairs {
			if why := b.find(p.from).missing + b.find(p.to).missing; why != "" {
				b.report.add(result{suite: "kill", client: p.from, check: "read by " + p.to, outcome: notRun, reason: why})
				continue
			}
			able = append(able, p)
		}
		return b.killRun(ctx, t, ref, able, c)
	})
}

func (b *bench) killRun(ctx context.Context, t *target, ref *reference, pairs []*killPair, c *corpus) error {
	for _, p := range pairs {
		if err := ref.create(ctx, p.topic(), checkPartitions); err != nil {
			return err
		}
		d, err := startDrain(b.find(p.to).impl.(drainer), p.topic(), p.group(), p.members, filepath.Join(b.work, p.group()), c)
		if err != nil {
			return err
		}
		p.drain = d
	}
	began := time.Now()
	var wg sync.WaitGroup
	for _, p := range pairs {
		wg.Go(func() { p.err = p.feed(ctx, b.find(p.from).impl.(feeder), c) })
	}
	err := b.killThrice(ctx, t, pairs, c)
	wg.Wait()
	b.report.note("kill", t.name, fmt.Sprintf("%d times SIGKILL and restart", kills), time.Since(began), fmt.Sprintf("%d lines a topic", c.lines), err)
	for _, p := range pairs {
		began := time.Now()
		if p.err == nil {
			p.err = inLog(ctx, ref, p.topic(), p.codec, c)
		}
		b.report.note("kill", p.from, "every line once and in order, "+p.codec, time.Since(began), "", p.err)
	}
	for _, p := range pairs {
		began := time.Now()
		err := p.drain.finish(ctx)
		if err == nil {
			err = p.drain.tally.verdict(true)
		}
		if err == nil {
			err = committed(ctx, ref, p.topic(), p.group())
		}
		what := fmt.Sprintf("every line read, group of %d on %s", p.members, p.from)
		b.report.note("kill", p.to, what, time.Since(began), fmt.Sprintf("%d read again", p.drain.tally.repeats), err)
		if err != nil {
			continue
		}
		began = time.Now()
		err = b.resume(ctx, ref, p)
		b.report.note("kill", p.to, "goes on from its commits", time.Since(began), "", err)
	}
	return nil
}

// killThrice kills and restarts the broker each time that another quarter of
// the corpus was handed to the feeders.
func (b *bench) killThrice(ctx context.Context, t *target, pairs []*killPair, c *corpus) error {
	for i := range kills {
		for enough := int64(c.lines * len(pairs) * (i + 1) / (kills + 1)); ; time.Sleep(5 * time.Millisecond) {
			var fed int64
			for _, p := range pairs {
				fed += p.fed.Load()
			}
			if fed >= enough {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if err := t.Kill(); err != nil {
			return err
		}
		if err := t.Start(); err != nil {
			return fmt.Errorf("after kill %d: %w", i+1, err)
		}
	}
	return nil
}

// feed writes the corpus to the feeder at an even pace.
func (p *killPair) feed(ctx context.Context, f feeder, c *corpus) error {
	in, err := os.Open(c.path)
	if err != nil {
		return err
	}
	defer in.Close()
	pipe, w := io.Pipe()
	go func() {
		const step = 20 * time.Millisecond
		each := 1 + c.lines*int(step)/int(killFeed)
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 1<<20)
		tick := time.NewTicker(step)
		defer tick.Stop()
		for {
			var chunk bytes.Buffer
			n := 0
			for n < each && lines.Scan() {
				chunk.Write(lines.Bytes())
				chunk.WriteByte('\n')
				n++
			}
			if _, err := w.Write(chunk.Bytes()); n == 0 || err != nil {
				w.CloseWithError(errors.Join(err, lines.Err()))
				return
			}
			p.fed.Add(int64(n))
			<-tick.C
		}
	}()
	defer pipe.Close()
	return feed(ctx, f, p.topic(), p.codec, pipe)
}

// resume has the group read again: it must see the lines that came since, and
// none of those before.
func (b *bench) resume(ctx context.Context, ref *reference, p *killPair) error {
	c, err := smallCorpus(filepath.Join(b.work, "more-"+p.from), 24, 10)
	if err != nil {
		return err
	}
	if err := feedFile(ctx, b.find(p.from).impl.(feeder), p.topic(), p.codec, c); err != nil {
		return err
	}
	d, err := startDrain(b.find(p.to).impl.(drainer), p.topic(), p.group(), 1, filepath.Join(b.work, p.group()+"-again"), c)
	if err != nil {
		return err
	}
	if err := d.finish(ctx); err != nil {
		return err
	}
	return errors.Join(d.tally.verdict(false), committed(ctx, ref, p.topic(), p.group()))
}
