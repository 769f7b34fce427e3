package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const featureCommand = "org.apache.kafka.tools.FeatureCommand"

// featureFiles has the script of kafka-features, and the records that it leaves in the metadata log.
const featureFiles = "testdata/features"

// featuresChecks is the suite features: kafka-features prints what it prints of Apache Kafka, and leaves the
// same records behind; levels that one of the brokers changed are those of the other, on one directory; transactions
// survive levels that change under them.
func (b *bench) featuresChecks(ctx context.Context) error {
	classes, err := b.cache.javaClasses()
	if err != nil {
		b.report.add(result{suite: "features", client: "kafka-features", check: "levels", outcome: notRun, reason: err.Error()})
		return nil
	}
	within, cancel := context.WithTimeout(ctx, 2*checkWithin)
	defer cancel()
	jvm := &driver{argv: classes.command("Tools", "-Xmx256m").Args, log: b.log}
	defer jvm.Close()
	if err := b.featureTools(within, classes.javaTools, jvm); err != nil {
		return err
	}
	if b.target == "rotpeter" && b.wants("features", "levels", "swap") {
		if err := b.featureSwap(within, classes.javaTools, jvm); err != nil {
			return err
		}
	}
	return b.featureClients(ctx)
}

// featureTools plays the script, and holds the metadata log that it leaves against Kafka's.
func (b *bench) featureTools(ctx context.Context, java *javaTools, jvm *driver) error {
	if !b.wants("features", "kafka-features", "script") {
		return nil
	}
	var settings []string
	if b.target == "rotpeter" {
		settings = []string{"controller.quorum.voters=1@127.0.0.1:9093"} // as the Kafka under test has them
	}
	golden := b.golden && b.target == "kafka"
	var data string
	err := b.bareBroker(ctx, "features", settings, func(t *target, ref *reference) error {
		data = t.data
		player := &toolPlayer{jvm: jvm, bootstrap: ref.bootstrap, dir: featureFiles}
		began := time.Now()
		n, err := player.play(ctx, "tools", golden)
		b.report.note("features", "kafka-features", "script", time.Since(began), fmt.Sprintf("%d runs", n), err)
		return nil
	})
	if err != nil {
		return err
	}
	began := time.Now()
	got, err := levelRecords(ctx, java, filepath.Join(data, "__cluster_metadata-0"))
	file := filepath.Join(featureFiles, "records.txt")
	if err == nil && golden {
		err = os.WriteFile(file, []byte(got), 0o644)
	}
	want, readErr := os.ReadFile(file)
	if err = errors.Join(err, readErr); err == nil && got != string(want) {
		err = fmt.Errorf("other records are in the metadata log (- want, + got):\n%s", lineDiff(string(want), got))
	}
	b.report.note("features", "kafka-features", "records of the metadata log", time.Since(began), fmt.Sprintf("%d records", strings.Count(got, "\n")), err)
	return nil
}

// levelRecords are the records about features and what goes with them, in their order, without the directory's id and port.
func levelRecords(ctx context.Context, java *javaTools, dir string) (string, error) {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	cmd := java.command(ctx, dumpLog, "--cluster-metadata-decoder", "--files", strings.Join(logs, ","))
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return "", err
	}
	kinds := regexp.MustCompile(`"type":"(FEATURE_LEVEL|CONFIG|CLEAR_ELR|BEGIN_TRANSACTION|END_TRANSACTION)_RECORD"|KRaftVersion|KRaftVoters`)
	own := regexp.MustCompile(`"(voterDirectoryId|host)":"[^"]*"|"port":\d+`)
	var lines strings.Builder
	for line := range strings.Lines(out.String()) {
		if _, record, ok := strings.Cut(line, "headerKeys: [] "); ok && kinds.MatchString(record) {
			lines.WriteString(own.ReplaceAllString(strings.TrimSpace(record), "...") + "\n")
		}
	}
	return lines.String(), nil
}

// featureSwapRun is a directory that was formatted for Kafka 3.6 and is raised while two brokers serve it in turn.
type featureSwapRun struct {
	b               *bench
	java            *javaTools
	jvm             *driver
	kafka, rotpeter *target
}

func (b *bench) featureSwap(ctx context.Context, java *javaTools, jvm *driver) error {
	t, err := b.newTarget("features-swap", "controller.quorum.voters=1@127.0.0.1:9093")
	if err != nil {
		return err
	}
	b.leaveData(t)
	s := &featureSwapRun{b: b, java: java, jvm: jvm, rotpeter: t}
	if err := s.format(ctx); err != nil {
		return err
	}
	defer func() {
		for _, t := range []*target{s.kafka, s.rotpeter} {
			if t.cmd != nil {
				t.Kill()
			}
		}
	}()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"a directory that was formatted for Kafka 3.6 is raised to the newest levels, step by step", s.raise},
		{"Kafka starts on it, shows the same and changes levels", s.handOver},
		{"levels that Kafka changed are in force, and a kill changes nothing", s.takeBack},
		{"kafka-dump-log reads the metadata log", s.dump},
	} {
		began := time.Now()
		err := step.run(ctx)
		b.report.note("features", "levels", step.name, time.Since(began), "", err)
		if err != nil {
			return nil // the rest would fail for the same reason
		}
	}
	return nil
}

// format has kafka-storage format the directory as that of an older release, whose voters are static.
func (s *featureSwapRun) format(ctx context.Context) error {
	port, err1 := freePort()
	quorum, err2 := freePort()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	s.rotpeter.bootstrap = fmt.Sprintf("127.0.0.1:%d", port)
	config := filepath.Join(filepath.Dir(s.rotpeter.data), "server.properties")
	if err := os.WriteFile(config, []byte(kafkaProperties(s.rotpeter.bootstrap, s.rotpeter.bootstrap, quorum, s.rotpeter.data)), 0o644); err != nil {
		return err
	}
	s.kafka = kafkaOn(s.java, config, s.rotpeter.data, s.rotpeter.bootstrap, s.b.log)
	_, err := s.java.run(ctx, nil, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", config, "--release-version", "3.6")
	return err
}

// tool runs kafka-features; an exit code other than the expected is an error.
func (s *featureSwapRun) tool(ctx context.Context, code int, args ...string) error {
	var a toolAnswer
	if err := s.jvm.call(ctx, "run", map[string]any{"class": featureCommand, "args": append([]string{"--bootstrap-server", s.rotpeter.bootstrap}, args...)}, &a); err != nil {
		return err
	}
	if a.Code != code {
		return fmt.Errorf("kafka-features %s: exit code %d, want %d:\n%s%s", strings.Join(args, " "), a.Code, code, a.Out, a.Err)
	}
	return nil
}

// with starts a broker, runs f and stops the broker.
func (s *featureSwapRun) with(t *target, f func(ref *reference) error) error {
	if err := t.Start(); err != nil {
		return err
	}
	ref, err := newReference(t.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	if err := f(ref); err != nil {
		return err
	}
	if t.cmd == nil {
		return nil
	}
	return t.Stop()
}

func (s *featureSwapRun) raise(ctx context.Context) error {
	return s.with(s.rotpeter, func(ref *reference) error {
		if err := expectLevels(ctx, ref, "metadata.version=14"); err != nil {
			return err
		}
		if err := ref.create(ctx, "levels", 2); err != nil {
			return err
		}
		for i, step := range []struct {
			code int
			args []string
			want string
		}{
			{1, []string{"upgrade", "--feature", "eligible.leader.replicas.version=1"}, "metadata.version=14"},
			{0, []string{"upgrade", "--metadata", "3.7-IV0"}, "metadata.version=15"},
			{0, []string{"upgrade", "--metadata", "3.9"}, "metadata.version=21"},
			{0, []string{"downgrade", "--metadata", "3.7"}, "metadata.version=19"},
			{0, []string{"upgrade", "--feature", "transaction.version=1", "--feature", "group.version=1"}, "group.version=1 metadata.version=19 transaction.version=1"},
			{0, []string{"upgrade", "--release-version", "4.0"}, "group.version=1 kraft.version=1 metadata.version=25 transaction.version=2"},
			// It would raise share.version, which is not served.
			{1, []string{"upgrade", "--release-version", "4.3"}, "group.version=1 kraft.version=1 metadata.version=25 transaction.version=2"},
			{0, []string{"upgrade", "--metadata", "4.3", "--feature", "eligible.leader.replicas.version=1"}, newestLevels},
		} {
			err := s.tool(ctx, step.code, step.args...)
			if err == nil {
				err = expectLevels(ctx, ref, step.want)
			}
			if err == nil {
				err = writeInTxn(ctx, s.rotpeter.bootstrap, fmt.Sprint("of step ", i))
			}
			if err != nil {
				return fmt.Errorf("step %d, %s: %w", i, strings.Join(step.args, " "), err)
			}
		}
		return nil
	})
}

// newestLevels are those of Kafka 4.3 without what is not served.
const newestLevels = "eligible.leader.replicas.version=1 group.version=1 kraft.version=1 metadata.version=30 transaction.version=2"

func (s *featureSwapRun) handOver(ctx context.Context) error {
	return s.with(s.kafka, func(ref *reference) error {
		if err := expectLevels(ctx, ref, newestLevels); err != nil {
			return err
		}
		if err := writeInTxn(ctx, s.kafka.bootstrap, "of Kafka"); err != nil {
			return err
		}
		return errors.Join(
			s.tool(ctx, 0, "downgrade", "--feature", "transaction.version=1", "--feature", "group.version=0"),
			s.tool(ctx, 0, "upgrade", "--feature", "share.version=1"),
			writeInTxn(ctx, s.kafka.bootstrap, "of Kafka at 1"),
		)
	})
}

func (s *featureSwapRun) takeBack(ctx context.Context) error {
	const left = "eligible.leader.replicas.version=1 kraft.version=1 metadata.version=30 transaction.version=1"
	err := s.with(s.rotpeter, func(ref *reference) error {
		if err := expectLevels(ctx, ref, left); err != nil {
			return err
		}
		err := errors.Join(s.tool(ctx, 0, "upgrade", "--feature", "transaction.version=2"), s.tool(ctx, 0, "upgrade", "--feature", "group.version=1"), writeInTxn(ctx, s.rotpeter.bootstrap, "again"))
		return errors.Join(err, s.rotpeter.Kill())
	})
	if err != nil {
		return err
	}
	return s.with(s.rotpeter, func(ref *reference) error {
		if err := expectLevels(ctx, ref, newestLevels); err != nil {
			return err
		}
		want := []string{"again", "of Kafka", "of Kafka at 1"}
		for i := range 8 {
			want = append(want, fmt.Sprint("of step ", i))
		}
		return expectWritten(ctx, s.rotpeter.bootstrap, want)
	})
}

func (s *featureSwapRun) dump(ctx context.Context) error {
	logs, err := filepath.Glob(filepath.Join(s.rotpeter.data, "__cluster_metadata-0", "*.log"))
	if err != nil {
		return err
	}
	_, err = dumpFiles(ctx, s.java, []string{"--cluster-metadata-decoder"}, logs)
	return err
}

// expectLevels holds the finalized levels, but for those of features that are not served, against a text.
func expectLevels(ctx context.Context, ref *reference, want string) error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "compat", "1"
	resp, err := req.RequestWith(ctx, ref.cl)
	if err != nil {
		return err
	}
	var levels []string
	for _, f := range resp.FinalizedFeatures {
		if f.Name != "share.version" && f.Name != "streams.version" {
			levels = append(levels, fmt.Sprintf("%s=%d", f.Name, f.MaxVersionLevel))
		}
	}
	slices.Sort(levels)
	if got := strings.Join(levels, " "); got != want {
		return fmt.Errorf("the levels are %s, want %s", got, want)
	}
	return nil
}

// writeInTxn writes a text into topic levels in a transaction of its own.
func writeInTxn(ctx context.Context, bootstrap, text string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.TransactionalID("levels"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for p := range int32(2) {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "levels", Partition: p, Value: []byte(text)}).FirstErr(); err != nil {
			return err
		}
	}
	return cl.EndTransaction(ctx, kgo.TryCommit)
}

// expectWritten holds what readers of committed records see of topic levels against what was written into each partition.
func expectWritten(ctx context.Context, bootstrap string, want []string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics("levels"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer cl.Close()
	var got []string
	for len(got) < 2*len(want) {
		fs := cl.PollFetches(ctx)
		if err := errors.Join(fs.Err0(), ctx.Err()); err != nil {
			return fmt.Errorf("%d of %d records: %w", len(got), 2*len(want), err)
		}
		fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	want = append(slices.Clone(want), want...)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("topic levels has %q, want %q", got, want)
	}
	return nil
}
