package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// dumpLogs is how many partitions of a data directory are dumped at most,
	// the largest first.
	dumpLogs = 60
	// dumpArgument is how long a list of files may be: one argument of a
	// program is limited to 128 KiB.
	dumpArgument = 100 << 10
)

// dumpChecks has kafka-dump-log read the data directories that stopped brokers
// left behind.
func (b *bench) dumpChecks(ctx context.Context) error {
	java, err := b.cache.java()
	if err != nil {
		b.report.add(result{suite: "dump", client: "kafka-dump-log", check: "data directories", outcome: notRun, reason: err.Error()})
		return nil
	}
	if len(b.dirs) == 0 {
		return errors.New("no suite before this one left a data directory")
	}
	for _, dir := range b.dirs {
		logs, err := logsOf(dir)
		if err != nil {
			return err
		}
		suite := filepath.Base(filepath.Dir(dir))
		for _, k := range []struct {
			name  string
			args  []string
			files []string
		}{
			{".log, records decompressed", []string{"--deep-iteration"}, logs.topics},
			{".index", []string{}, withSuffix(logs.topics, ".index")},
			{".timeindex", []string{}, withSuffix(logs.topics, ".timeindex")},
			{".txnindex and .snapshot", nil, logs.producers},
			{"--offsets-decoder", []string{"--offsets-decoder"}, logs.offsets},
			{"--transaction-log-decoder", []string{"--transaction-log-decoder"}, logs.transactions},
			{"--cluster-metadata-decoder", []string{"--cluster-metadata-decoder"}, logs.metadata},
			{".index of internal topics", nil, withSuffix(slices.Concat(logs.offsets, logs.transactions, logs.metadata), ".index")},
		} {
			if !b.wants("dump", suite, k.name) || len(k.files) == 0 {
				continue
			}
			began := time.Now()
			measure, err := dumpFiles(ctx, java, k.args, k.files)
			b.report.note("dump", suite, k.name, time.Since(began), measure, err)
		}
	}
	return nil
}

// logFiles are the .log files of a data directory that hold something, and what it has of producers.
type logFiles struct{ topics, offsets, transactions, metadata, producers []string }

func logsOf(dir string) (logFiles, error) {
	var out logFiles
	names, err := filepath.Glob(filepath.Join(dir, "*", "*.log"))
	if err != nil {
		return out, err
	}
	size := map[string]int64{}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return out, err
		}
		size[name] = info.Size()
	}
	slices.SortFunc(names, func(a, b string) int { return int(size[b] - size[a]) })
	for _, name := range names {
		into := &out.topics
		switch partition := filepath.Base(filepath.Dir(name)); {
		case size[name] == 0, strings.HasSuffix(partition, "-delete"):
			continue // nothing in it, or on its way out
		case strings.HasPrefix(partition, "__consumer_offsets-"):
			into = &out.offsets
		case strings.HasPrefix(partition, "__transaction_state-"):
			into = &out.transactions
		case partition == "__cluster_metadata-0":
			into = &out.metadata
		}
		if len(*into) < dumpLogs {
			*into = append(*into, strings.TrimSuffix(name, ".log"))
		}
	}
	for _, list := range []*[]string{&out.topics, &out.offsets, &out.transactions, &out.metadata} {
		*list = withSuffix(*list, ".log")
	}
	out.producers, err = producerFiles(dir)
	if err != nil {
		return out, err
	}
	if len(out.topics) == 0 || len(out.metadata) == 0 {
		return out, fmt.Errorf("%s holds no records", dir)
	}
	return out, nil
}

// producerFiles are the transaction indexes and producer snapshots of a data directory that hold something.
func producerFiles(dir string) ([]string, error) {
	indexes, err1 := filepath.Glob(filepath.Join(dir, "*", "*.txnindex"))
	snapshots, err2 := filepath.Glob(filepath.Join(dir, "*", "*.snapshot"))
	var out []string
	for _, name := range slices.Concat(indexes, snapshots) {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 && len(out) < dumpLogs {
			out = append(out, name)
		}
	}
	return out, errors.Join(err1, err2)
}

func withSuffix(names []string, suffix string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = strings.TrimSuffix(name, ".log") + suffix
	}
	return out
}

// dumpFiles runs kafka-dump-log over files. What it says on standard error, a
// mismatch, an invalid batch or an exception is a failure.
func dumpFiles(ctx context.Context, java *javaTools, args, files []string) (string, error) {
	return dumpCompacted(ctx, java, func(string) bool { return false }, args, files)
}

// dumpCompacted is dumpFiles where some are of compacted logs.
func dumpCompacted(ctx context.Context, java *javaTools, compacted func(file string) bool, args, files []string) (string, error) {
	var out bytes.Buffer
	for len(files) > 0 {
		n, length := 0, 0
		for n < len(files) && length+len(files[n]) < dumpArgument {
			length += len(files[n]) + 1
			n++
		}
		cmd := java.command(ctx, dumpLog, append(slices.Clone(args), "--files", strings.Join(files[:n], ","))...)
		files = files[n:]
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("kafka-dump-log: %w: %s", err, firstWords(stderr.Bytes()))
		}
		if said := complaints(stderr.String(), compacted); said != "" {
			return "", fmt.Errorf("kafka-dump-log says: %s", firstWords([]byte(said)))
		}
	}
	return dumpVerdict(out.Bytes())
}

// complaints leaves out what the tool says of logs that are as they should be: of every
// segment but a partition's first that its first offset does not follow -1; and of compacted
// ones that they have gaps, and that a batch whose records are all gone has no time.
func complaints(stderr string, compacted func(file string) bool) string {
	var rest []string
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	for i := 0; i < len(lines); i++ {
		about, fine := lines[i], func(string) bool { return false }
		if file, ok := strings.CutPrefix(about, "Non-consecutive offsets in "); ok {
			fine = func(line string) bool { return fineOffsets(line, file, compacted(file)) }
		} else if file, ok := strings.CutPrefix(about, "Found timestamp mismatch in :"); ok {
			fine = func(line string) bool { return compacted(file) && strings.HasSuffix(line, ", log timestamp: -1") }
		}
		odd := []string{about}
		excused := 0
		for ; i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  "); i++ {
			if fine(lines[i+1]) {
				excused++
			} else {
				odd = append(odd, lines[i+1])
			}
		}
		if excused == 0 || len(odd) > 1 {
			rest = append(rest, odd...)
		}
	}
	return strings.Join(rest, "\n")
}

// fineOffsets reads "  7 is followed by 9", of which a file is accused.
func fineOffsets(line, file string, compacted bool) bool {
	var last, next int64
	if _, err := fmt.Sscanf(strings.TrimSpace(line), "%d is followed by %d", &last, &next); err != nil {
		return false
	}
	base, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(file), ".log"), 10, 64)
	return err == nil && last == -1 && next == base || compacted && next > last
}

func dumpVerdict(out []byte) (string, error) {
	batches, records, dumped := 0, 0, 0
	for line := range bytes.Lines(out) {
		lower := bytes.ToLower(line)
		switch {
		case bytes.HasPrefix(line, []byte("Dumping ")):
			dumped++
		case bytes.HasPrefix(line, []byte("baseOffset: ")):
			batches++
			if !bytes.HasSuffix(bytes.TrimSpace(line), []byte("isvalid: true")) {
				return "", fmt.Errorf("a batch is not valid: %.300s", line)
			}
		case bytes.HasPrefix(line, []byte("| offset: ")):
			records++
			if bytes.Contains(line, []byte("isvalid: false")) {
				return "", fmt.Errorf("a record is not valid: %.300s", line)
			}
		case bytes.Contains(lower, []byte("mismatch")), bytes.Contains(lower, []byte("exception")), bytes.Contains(lower, []byte("error")):
			return "", fmt.Errorf("kafka-dump-log printed: %.300s", line)
		}
	}
	return fmt.Sprintf("%d files, %d batches, %d records", dumped, batches, records), nil
}

func firstWords(b []byte) string {
	if len(b) > 400 {
		b = b[:400]
	}
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "; ")
}
