package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// dumpAll has kafka-dump-log read every file that it can read, after the broker has ended. The
// indexes of a log's last segment are whole after a clean stop only: Kafka has 10 MB of zeros
// there after a SIGKILL, and both brokers make them again.
func (s *swap) dumpAll(ctx context.Context, who string, clean bool) error {
	names, err := filepath.Glob(filepath.Join(s.kafka.data, "*-*", "*"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	bootstrap := filepath.Join(s.kafka.data, "bootstrap.checkpoint")
	kinds := []struct {
		name  string
		args  []string
		files []string
	}{
		{name: "records and indexes", args: []string{"--deep-iteration"}},
		{name: "--offsets-decoder", args: []string{"--offsets-decoder"}},
		{name: "--transaction-log-decoder", args: []string{"--transaction-log-decoder"}},
		{name: "--share-group-state-decoder", args: []string{"--share-group-state-decoder"}},
		{name: "--cluster-metadata-decoder", args: []string{"--cluster-metadata-decoder"}, files: []string{bootstrap}},
	}
	active := map[string]string{} // the last .log of each directory
	for _, name := range names {
		if filepath.Ext(name) == ".log" {
			active[filepath.Dir(name)] = strings.TrimSuffix(name, ".log")
		}
	}
	internal := []string{"", "__consumer_offsets-", "__transaction_state-", "__share_group_state-", "__cluster_metadata-"}
	for _, name := range names {
		dir := filepath.Base(filepath.Dir(name))
		ext := filepath.Ext(name)
		if strings.HasSuffix(dir, "-delete") {
			continue // on its way out
		}
		kind := slices.IndexFunc(internal[1:], func(prefix string) bool { return strings.HasPrefix(dir, prefix) }) + 1
		switch ext {
		case ".log", ".checkpoint":
		case ".index", ".timeindex":
			if kind = 0; !clean && active[filepath.Dir(name)] == strings.TrimSuffix(name, ext) {
				continue
			}
		case ".txnindex", ".snapshot":
			kind = 0
		default:
			continue
		}
		kinds[kind].files = append(kinds[kind].files, name)
	}
	for _, k := range kinds {
		if len(k.files) == 0 {
			return fmt.Errorf("kafka-dump-log %s has no file to read", k.name)
		}
		began := time.Now()
		measure, err := dumpCompacted(ctx, s.java, compactedTopic, k.args, k.files)
		s.b.report.note("swap", who, "kafka-dump-log "+k.name, time.Since(began), measure, err)
	}
	return nil
}

// compactedTopic tells of a log whose offsets may have gaps.
func compactedTopic(file string) bool {
	dir := filepath.Base(filepath.Dir(file))
	return strings.HasPrefix(dir, swapCleaned+"-") || strings.HasPrefix(dir, swapCompacted+"-") || strings.HasPrefix(dir, "__")
}

// strays notes whether the directory holds what belongs there, our reserve for a full disk included, and nothing else. What was
// deleted a moment ago may still be on its way out.
func (s *swap) strays(ctx context.Context, who string) {
	began := time.Now()
	err := eventuallyIn(ctx, swapPatience, func() error { return s.onlyWhatBelongs(ctx) })
	s.b.report.note("swap", who, "no file too many", time.Since(began), "", err)
}

var (
	topFiles = regexp.MustCompile(`^(\.lock|\.rotpeter_reserve(_last)?|\.kafka_cleanshutdown|meta\.properties|bootstrap\.checkpoint|(cleaner-offset|log-start-offset|recovery-point-offset|replication-offset)-checkpoint)$`)
	logFile  = regexp.MustCompile(`^(\d{20}\.(log|index|timeindex|txnindex|snapshot)|\d{20}-\d{10}\.checkpoint|leader-epoch-checkpoint|partition\.metadata|quorum-state)$`)
)

func (s *swap) onlyWhatBelongs(ctx context.Context) error {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	topics, err := ref.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	due := map[string]bool{"__cluster_metadata-0": true}
	for _, t := range topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			due[fmt.Sprintf("%s-%d", t.Topic, p.Partition)] = true
		}
	}
	var odd []string
	entries, err := os.ReadDir(s.kafka.data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case !e.IsDir():
			if !topFiles.MatchString(e.Name()) {
				odd = append(odd, e.Name())
			}
			continue
		case !due[e.Name()]:
			odd = append(odd, e.Name()+"/")
			continue
		}
		delete(due, e.Name())
		files, err := os.ReadDir(filepath.Join(s.kafka.data, e.Name()))
		if err != nil {
			return err
		}
		for _, f := range files {
			if !logFile.MatchString(f.Name()) {
				odd = append(odd, filepath.Join(e.Name(), f.Name()))
			}
		}
	}
	for name := range due {
		odd = append(odd, name+" is missing")
	}
	if len(odd) > 0 {
		slices.Sort(odd)
		return fmt.Errorf("the data directory has %s", strings.Join(odd, ", "))
	}
	return nil
}

// tap is what a broker logs, kept a start at a time.
type tap struct {
	to io.Writer

	mu   sync.Mutex
	text bytes.Buffer
}

func (t *tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	t.text.Write(b)
	t.mu.Unlock()
	return t.to.Write(b)
}

// says tells whether something was logged since the last take.
func (t *tap) says(words string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Contains(t.text.Bytes(), []byte(words))
}

// take answers what was logged since the last call.
func (t *tap) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.text.String()
	t.text.Reset()
	return s
}

var (
	// alarms are words of brokers that say that a data directory is not as it should be.
	alarms = regexp.MustCompile(` WARN | ERROR | FATAL |level=(WARN|ERROR)|(?i:corrupt|truncat|stray|sanity check|invalid)`)
	// usual is what they say of a directory that is as it should be.
	usual = regexp.MustCompile(
		// The producers' part of the view asks for these.
		`Error processing append operation on partition|OutOfOrderSequenceException|InvalidProducerEpochException` +
			`|WARN .* Performing controller activation` +
			// It registers with a controller that is about to be active, itself, and tries again.
			`|ERROR .* Unexpected error handling request RequestHeader\(apiKey=(CONTROLLER|BROKER)_REGISTRATION` +
			// A broker that was killed leads until its session ends; its successor is elected after that.
			`|ERROR .* Failed to load metadata from __\S+ with epoch \d+ due to Stopped loading records .* no longer the leader` +
			// The index of a segment that Rotpeter writes to is in memory, and after a SIGKILL it is
			// nowhere. Kafka says so, and makes it again, as it does with each segment that it recovers.
			`|ERROR .* Could not find offset index file corresponding to log file .* recovering segment and rebuilding index files`)
)

// complained notes what a broker logged that it does not log when all is well.
func (s *swap) complained(who string, log string) {
	var lines []string
	for line := range strings.Lines(log) {
		if alarms.MatchString(line) && !usual.MatchString(line) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	var err error
	if n := len(lines); n > 0 {
		err = errors.New("it logged:\n" + strings.Join(lines[:min(n, differencesShown)], "\n"))
	}
	s.b.report.note("swap", who, "nothing alarming in its log", 0, fmt.Sprintf("%d lines", strings.Count(log, "\n")), err)
}
