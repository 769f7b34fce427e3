package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// connectCount is how many lines of the corpus go through.
	connectCount = 6_000
	// connectAhead is how many lines the file is ahead of the topic at most.
	connectAhead = 1_000
	// connectKills is how often a worker is killed.
	connectKills = 2
	// connectEnd is the last record of a topic, by the judge.
	connectEnd = "the end"
)

// connectRun is a worker of Kafka Connect that reads a file into a topic and the
// topic into another file.
type connectRun struct {
	name        string
	distributed bool   // its settings and places are in topics, else in files
	exactly     bool   // each line is in the topic once; else at least once
	converter   string // how a line is a record's value, and what reads it back:
	line        func([]byte) ([]byte, error)

	dir    string
	topic  string
	lines  connectLines
	random *rand.Rand
	log    io.Writer
	worker *connectWorker

	progress atomic.Int64 // lines in the topic
	written  int          // lines in the source's file
	torn     []int64      // sizes of the sink's file when its writer was killed
	kills    []int64      // at so many lines in the topic the worker is killed
	starts   int          // of the worker, beside the first
	restarts int          // of tasks that failed
	read     lineJudge    // of the topic
}

func (r *connectRun) source() string { return filepath.Join(r.dir, "source.txt") }
func (r *connectRun) sink() string   { return filepath.Join(r.dir, "sink.txt") }

// connectRuns are both modes of Kafka Connect. Exactly-once for sources is there
// with distributed workers alone (KIP-618).
func connectRuns() []*connectRun {
	const converters = "org.apache.kafka.connect."
	return []*connectRun{
		{name: "standalone", converter: converters + "json.JsonConverter", line: jsonLine},
		{name: "distributed", distributed: true, exactly: true, converter: converters + "storage.StringConverter", line: plainLine},
	}
}

// txnConnect has a file that grows go through a topic into another file, by
// workers of Kafka Connect that are killed with SIGKILL and started again, and
// their broker is killed by others meanwhile.
func (b *bench) txnConnect(ctx context.Context, ref *reference, runs []*connectRun) error {
	java, err := b.cache.jars("java-connect", "java/connect")
	if err != nil {
		for _, r := range runs {
			b.report.add(result{suite: "transactions", client: "kafka-connect", check: r.name, outcome: notRun, reason: strings.ReplaceAll(err.Error(), "\n", "; ")})
		}
		return nil
	}
	lines, err := b.connectCorpus(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for i, r := range runs {
		r.dir, r.topic, r.lines, r.log = filepath.Join(b.work, "connect-"+r.name), "lines-"+r.name, lines, b.log
		r.random = rand.New(rand.NewPCG(b.seed, uint64(i+2)))
		for k := range connectKills {
			r.kills = append(r.kills, int64(len(lines))*int64(4*k+2+r.random.IntN(3))/10)
		}
		wg.Go(func() {
			began := time.Now()
			err := r.run(ctx, java, ref)
			measure := fmt.Sprintf("%d lines, %d repeated, %d starts, %d restarts of tasks", r.read.next, r.read.repeats, r.starts+1, r.restarts)
			b.report.note("transactions", "kafka-connect", r.name, time.Since(began), measure, err)
		})
	}
	wg.Wait()
	return nil
}

// connectCorpus are the lines.
func (b *bench) connectCorpus(ctx context.Context) (connectLines, error) {
	c, err := goCorpus(ctx, filepath.Join(b.work, "connect-corpus"), connectCount)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(c.path)
	if err != nil {
		return nil, err
	}
	var values [][]byte
	for line := range strings.Lines(string(text)) {
		_, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), fieldSeparator)
		values = append(values, []byte(value))
	}
	return newConnectLines(values), nil
}

// run brings all lines through and judges topic and file.
func (r *connectRun) run(ctx context.Context, java *javaTools, ref *reference) error {
	if err := errors.Join(os.MkdirAll(r.dir, 0o755), os.WriteFile(r.source(), nil, 0o644), ref.create(ctx, r.topic, 1)); err != nil {
		return err
	}
	var err error
	if r.worker, err = r.newWorker(java, ref.bootstrap); err != nil {
		return err
	}
	if err := r.worker.start(); err != nil {
		return err
	}
	defer func() { r.worker.kill() }() // whichever is the last
	r.read.lines = r.lines
	reading, stop := context.WithCancel(ctx)
	read := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { read <- r.readTopic(reading, ref.bootstrap) })
	defer reader.Wait()
	defer stop()
	if r.distributed {
		if err := r.configure(ctx); err != nil {
			return err
		}
	}
	if err := r.tend(ctx, read); err != nil {
		return err
	}
	if err := ref.produce(ctx, r.topic, "none", true, []record{{Value: []byte(connectEnd)}}); err != nil {
		return err
	}
	return <-read
}

// configure makes the connectors by REST, as soon as the worker answers.
func (r *connectRun) configure(ctx context.Context) error {
	for name, config := range r.connectorConfigs() {
		for {
			err := r.worker.call(ctx, http.MethodPut, "/connectors/"+name+"/config", config, nil)
			if err == nil {
				break
			}
			select {
			case <-r.worker.done:
				return fmt.Errorf("the worker ended: %w", r.worker.err)
			case <-ctx.Done():
				return errors.Join(ctx.Err(), err)
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return nil
}

// readTopic reads the topic with read_committed up to the end mark.
func (r *connectRun) readTopic(ctx context.Context, bootstrap string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(r.topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("the end of %s was not read: %w", r.topic, ctx.Err())
		}
		for k := range fetches.RecordsAll() {
			if string(k.Value) == connectEnd {
				return nil
			}
			line, err := r.line(k.Value)
			if err == nil {
				err = r.read.add(line)
			}
			if err == nil && r.exactly && r.read.repeats > 0 {
				err = fmt.Errorf("line %.80q is there twice", line)
			}
			if err != nil {
				return fmt.Errorf("topic %s offset %d: %w", r.topic, k.Offset, err)
			}
		}
		r.progress.Store(int64(r.read.next))
	}
}

// tend has the file grow, kills the worker, starts it and failed tasks again, until all lines are at
// both ends, and then stops it.
func (r *connectRun) tend(ctx context.Context, read chan error) error {
	file, err := os.OpenFile(r.source(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	var rest []byte // of the lines that begin in the file
	for step := 0; ; step++ {
		at := int(r.progress.Load())
		if rest, err = r.grow(file, rest, at, step); err != nil {
			return err
		}
		if len(r.kills) > 0 && int64(at) >= r.kills[0] {
			r.kills = r.kills[1:]
			r.worker.kill()
			if err := r.again(); err != nil {
				return err
			}
		}
		if step%20 == 0 {
			r.mend(ctx)
		}
		if at >= len(r.lines) && step%5 == 0 {
			if done, err := r.arrived(); done || err != nil {
				return errors.Join(err, r.worker.terminate())
			}
		}
		select {
		case <-r.worker.done:
			fmt.Fprintf(r.log, "the worker %s ended: %v\n", r.name, r.worker.err)
			if err := r.again(); err != nil {
				return err
			}
		case err := <-read:
			read <- err
			return err
		case <-ctx.Done():
			return fmt.Errorf("%d of %d lines are in the topic: %w", at, len(r.lines), ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// grow appends to the file, not always whole lines. After the last one there is
// a further one now and then: the connector hands over no more than a batch of
// what it has read, until there is more to read.
func (r *connectRun) grow(file *os.File, rest []byte, at, step int) ([]byte, error) {
	for more := r.random.IntN(connectAhead); r.written < min(len(r.lines), at+connectAhead) && more > 0; more-- {
		rest = append(append(rest, r.lines.line(r.written)...), '\n')
		r.written++
	}
	cut := len(rest)
	switch {
	case r.written < len(r.lines) && cut > 0:
		cut -= r.random.IntN(min(cut, 40))
	case r.written >= len(r.lines) && step%20 == 0:
		rest = append(append(rest, r.lines.line(r.written)...), '\n')
		r.written++
		cut = len(rest)
	}
	_, err := file.Write(rest[:cut])
	return slices.Clone(rest[cut:]), err
}

// again starts the worker after its end.
func (r *connectRun) again() error {
	if info, err := os.Stat(r.sink()); err == nil {
		r.torn = append(r.torn, info.Size())
	}
	r.starts++
	return r.worker.start()
}

// mend starts again what failed, as its operator would.
func (r *connectRun) mend(ctx context.Context) {
	for _, name := range []string{connectSource, connectSink} {
		if why := r.worker.failed(ctx, name); why != nil {
			r.restarts++
			fmt.Fprintf(r.log, "connector %s of worker %s failed: %v, restart: %v\n", name, r.name, why, r.worker.restart(ctx, name))
		}
	}
}

// arrived says whether all lines are in the sink's file.
func (r *connectRun) arrived() (bool, error) {
	text, err := os.ReadFile(r.sink())
	if err != nil {
		return false, err
	}
	j, err := judgeSink(r.lines, text, r.torn)
	return j.next >= len(r.lines), err
}
