package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	wordsIn, wordsOut, wordsApplication = "words-in", "words-out", "counts-words"

	wordsPartitions = 2
	wordsLines      = 6_000 // a partition has half of them
)

// txnWords counts the words of a made-up corpus by Kafka Streams with
// exactly_once_v2. The application is killed with SIGKILL and started again,
// and its broker is killed by others meanwhile: the counts are still the true ones.
func (b *bench) txnWords(ctx context.Context, ref *reference) {
	if !b.wants("transactions", "kafka-streams", "counts words") {
		return
	}
	note := result{suite: "transactions", client: "kafka-streams", check: "counts words"}
	java, err := b.cache.compiled("java-streams", "java/streams", "Words")
	if err != nil {
		note.outcome, note.reason = notRun, strings.ReplaceAll(err.Error(), "\n", "; ")
		b.report.add(note)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, txnWithin)
	defer cancel()
	began := time.Now()
	truth, err := fillWords(ctx, ref, rand.New(rand.NewPCG(b.seed, 1)))
	var changes int
	if err == nil {
		changes, err = b.countWords(ctx, ref, java, truth)
	}
	b.report.note(note.suite, note.client, note.check, time.Since(began), fmt.Sprintf("%d words, %d changes of counts", len(truth), changes), err)
}

// fillWords makes the topics and the lines, and answers the true counts.
func fillWords(ctx context.Context, ref *reference, random *rand.Rand) (map[string]int64, error) {
	if err := errors.Join(ref.create(ctx, wordsIn, wordsPartitions), ref.create(ctx, wordsOut, wordsPartitions)); err != nil {
		return nil, err
	}
	truth := map[string]int64{}
	zipf := rand.NewZipf(random, 1.2, 2, 400)
	var rs []record
	for i := range wordsLines {
		words := make([]string, 5)
		for w := range words {
			words[w] = fmt.Sprintf("word%d", zipf.Uint64())
			truth[words[w]]++
		}
		rs = append(rs, record{Partition: int32(i % wordsPartitions), Value: []byte(strings.Join(words, " "))})
	}
	return truth, ref.produce(ctx, wordsIn, "none", true, rs)
}

// countWords runs the application, kills it midway, and waits for the true counts.
func (b *bench) countWords(ctx context.Context, ref *reference, java *javaClasses, truth map[string]int64) (changes int, err error) {
	start := func() (*exec.Cmd, io.WriteCloser, error) {
		args := java.command("Words", "-Xmx384m").Args
		cmd := exec.Command(args[0], append(args[1:], ref.bootstrap, wordsIn, wordsOut, wordsApplication, filepath.Join(b.work, "streams"))...)
		cmd.Stdout, cmd.Stderr = b.log, b.log
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, nil, err
		}
		return cmd, in, cmd.Start()
	}
	cmd, _, err := start()
	if err != nil {
		return 0, err
	}
	err = reached(ctx, ref, wordsLines/3)
	cmd.Process.Kill()
	cmd.Wait() // says that it was killed
	if err != nil {
		return 0, err
	}
	cmd, in, err := start()
	if err != nil {
		return 0, err
	}
	defer func() {
		in.Close()
		timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer timer.Stop()
		if stopErr := cmd.Wait(); err == nil && stopErr != nil {
			err = fmt.Errorf("the application ends: %w", stopErr)
		}
	}()
	return watchCounts(ctx, ref, truth)
}

// reached waits until the application has committed so many lines.
func reached(ctx context.Context, ref *reference, lines int64) error {
	for {
		var sum int64
		offsets, err := ref.admin.FetchOffsets(ctx, wordsApplication)
		if err == nil {
			for _, o := range offsets[wordsIn] {
				sum += max(o.At, 0)
			}
			if sum >= lines {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d lines were committed: %w", sum, wordsLines, errors.Join(ctx.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// watchCounts reads the counts with read_committed until all are the true ones.
// A count that does not grow, or grows beyond the truth, is an error.
func watchCounts(ctx context.Context, ref *reference, truth map[string]int64) (changes int, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(ref.bootstrap), kgo.ConsumeTopics(wordsOut), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	seen := map[string]int64{}
	for right := 0; right < len(truth); {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return changes, fmt.Errorf("%d of %d words have their true counts: %w", right, len(truth), ctx.Err())
		}
		for r := range fetches.RecordsAll() {
			word := string(r.Key)
			count, err := strconv.ParseInt(string(r.Value), 10, 64)
			if err != nil || count <= seen[word] || count > truth[word] {
				return changes, fmt.Errorf("%s is counted as %s after %d, it is there %d times (partition %d offset %d)",
					word, r.Value, seen[word], truth[word], r.Partition, r.Offset)
			}
			seen[word] = count
			changes++
			if count == truth[word] {
				right++
			}
		}
	}
	return changes, nil
}
