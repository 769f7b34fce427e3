package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	wordsIn, wordsOut, wordsApplication = "words-in", "words-out", "counts-words"

	wordsPartitions = 2
	wordsLines      = 20_000 // unless -full
	// wordsAtOnce is how many lines are handed to a producer at a time.
	wordsAtOnce = 50_000
)

// wordsRun counts the words of the corpus by Kafka Streams with exactly_once_v2 and its default store, RocksDB.
type wordsRun struct {
	java   *javaClasses
	dir    string // holds what the application keeps
	random *rand.Rand
	log    io.Writer

	lines    string           // file of the corpus
	all      int64            // lines in it
	truth    map[string]int64 // how often each word is there
	progress atomic.Int64     // lines behind the application's offsets
}

// wordsApp is a process of the application.
type wordsApp struct {
	*process
	in io.WriteCloser // ends it
}

func (r *wordsRun) state() string { return filepath.Join(r.dir, "state") }

func (r *wordsRun) start(bootstrap string) (*wordsApp, error) {
	cmd := r.java.command("Words", "-Xmx384m")
	cmd.Args = append(cmd.Args, bootstrap, wordsIn, wordsOut, wordsApplication, r.state())
	cmd.Env = append(os.Environ(), "ROCKSDB_SHAREDLIB_DIR="+r.dir) // its own copy in /tmp would outlive a killed process
	cmd.Stdout, cmd.Stderr = r.log, r.log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p, err := startProcess(cmd)
	return &wordsApp{process: p, in: in}, err
}

// stop has it end by itself.
func (a *wordsApp) stop() error {
	a.in.Close()
	if err := a.ends(); err != nil {
		return fmt.Errorf("the application ends: %w", err)
	}
	return nil
}

// txnWords runs it: the application is killed with SIGKILL and goes on from its changelog, once without its state
// directory, and then ends cleanly and goes on from what it has on disk. Its broker is killed by others meanwhile.
// The counts are the true ones at the end, and no count falls, repeats or goes beyond the truth before.
func (b *bench) txnWords(ctx context.Context, ref *reference, r *wordsRun) {
	began := time.Now()
	changes, err := r.count(ctx, ref)
	measure := fmt.Sprintf("%d lines, %d words, %d changes of counts", r.all, len(r.truth), changes)
	b.report.note("transactions", "kafka-streams", "counts words", time.Since(began), measure, err)
}

// newWordsRun answers nil, and reports why, if there is no Kafka Streams here.
func (b *bench) newWordsRun(ctx context.Context) (*wordsRun, error) {
	java, err := b.cache.compiled("java-streams", "java/streams", "Words")
	if err != nil {
		b.report.add(result{suite: "transactions", client: "kafka-streams", check: "counts words", outcome: notRun, reason: strings.ReplaceAll(err.Error(), "\n", "; ")})
		return nil, nil
	}
	dir, lines := filepath.Join(b.work, "streams"), wordsLines
	if b.full {
		lines = 0
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c, err := goCorpus(ctx, filepath.Join(dir, "corpus"), lines)
	if err != nil {
		return nil, err
	}
	return &wordsRun{java: java, dir: dir, random: rand.New(rand.NewPCG(b.seed, 1)), log: b.log, lines: c.path, all: int64(c.lines)}, nil
}

func (r *wordsRun) count(ctx context.Context, ref *reference) (changes int, err error) {
	if err := r.fill(ctx, ref); err != nil {
		return 0, err
	}
	watched := make(chan error, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go func() { watched <- r.watch(watching, ref.bootstrap, &changes) }()
	app, err := r.live(ctx, ref, watched)
	if err != nil {
		stop()
	}
	err = cmp.Or(err, <-watched)
	if app != nil {
		err = cmp.Or(err, app.stop())
	}
	return changes, err
}

// fill makes the topics and the lines, and counts the words.
func (r *wordsRun) fill(ctx context.Context, ref *reference) error {
	if err := errors.Join(ref.create(ctx, wordsIn, wordsPartitions), ref.create(ctx, wordsOut, wordsPartitions)); err != nil {
		return err
	}
	r.truth = map[string]int64{}
	f, err := os.Open(r.lines)
	if err != nil {
		return err
	}
	defer f.Close()
	var rs []record
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4*longestLine)
	for i := 0; lines.Scan(); i++ {
		_, value, _ := bytes.Cut(lines.Bytes(), []byte(fieldSeparator))
		text := bytes.Clone(value[8:]) // without the line's number
		for _, word := range bytes.FieldsFunc(text, isNoWord) {
			r.truth[string(word)]++
		}
		if rs = append(rs, record{Partition: int32(i % wordsPartitions), Value: text}); len(rs) == wordsAtOnce {
			if err := ref.produce(ctx, wordsIn, "none", true, rs); err != nil {
				return err
			}
			rs = rs[:0]
		}
	}
	return errors.Join(lines.Err(), ref.produce(ctx, wordsIn, "none", true, rs))
}

// isNoWord says that a rune is between words, as the application sees it.
func isNoWord(r rune) bool {
	return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// live starts and ends the application, and leaves the last one running. What
// watched has, it leaves there.
func (r *wordsRun) live(ctx context.Context, ref *reference, watched chan error) (app *wordsApp, err error) {
	app, err = r.start(ref.bootstrap)
	if err != nil {
		return nil, err
	}
	for i, end := range []func() error{
		func() error { app.kill(); return nil },
		func() error { app.kill(); return os.RemoveAll(r.state()) },
		func() error { return app.stop() },
	} {
		// Somewhere in each quarter but the last.
		if err := r.reached(ctx, ref, app, watched, (int64(4*i+2)+r.random.Int64N(3))*r.all/16); err != nil {
			return app, err
		}
		if err := end(); err != nil {
			return nil, err
		}
		if app, err = r.start(ref.bootstrap); err != nil {
			return nil, err
		}
	}
	// Progress goes on for those who wait for it.
	return app, r.reached(ctx, ref, app, watched, r.all)
}

// reached waits until the application has committed so many lines.
func (r *wordsRun) reached(ctx context.Context, ref *reference, app *wordsApp, watched chan error, lines int64) error {
	for {
		var sum int64
		offsets, err := ref.admin.FetchOffsets(ctx, wordsApplication)
		if err == nil {
			for _, o := range offsets[wordsIn] {
				sum += max(o.At, 0)
			}
			r.progress.Store(sum)
			if sum >= lines {
				return nil
			}
		}
		select {
		case <-app.done:
			return fmt.Errorf("the application ended after %d of %d lines: %w", sum, r.all, app.err)
		case err := <-watched:
			watched <- err
			return err
		case <-ctx.Done():
			return fmt.Errorf("%d of %d lines were committed: %w", sum, r.all, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// watch reads the counts with read_committed until all are the true ones. A
// count that does not grow, or grows beyond the truth, is an error.
func (r *wordsRun) watch(ctx context.Context, bootstrap string, changes *int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(wordsOut), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	seen := map[string]int64{}
	for right := 0; right < len(r.truth); {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d words have their true counts: %w", right, len(r.truth), ctx.Err())
		}
		for k := range fetches.RecordsAll() {
			word := string(k.Key)
			count, err := strconv.ParseInt(string(k.Value), 10, 64)
			if err != nil || count <= seen[word] || count > r.truth[word] {
				return fmt.Errorf("%s is counted as %s after %d, it is there %d times (partition %d offset %d)",
					word, k.Value, seen[word], r.truth[word], k.Partition, k.Offset)
			}
			seen[word] = count
			*changes++
			if count == r.truth[word] {
				right++
			}
		}
	}
	return nil
}
