package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// javaTools runs the main classes of Kafka's own tools, unmodified, each in a
// JVM of its own. A class-data archive made at the first run of a class more
// than halves the start of the next ones.
type javaTools struct {
	jars     []string // the class path
	archives string   // folder of the class-data archives
	log4j    string   // configuration file: warnings to standard error
	log      io.Writer
}

const (
	topicCommand      = "org.apache.kafka.tools.TopicCommand"
	consoleProducer   = "org.apache.kafka.tools.ConsoleProducer"
	consoleConsumer   = "org.apache.kafka.tools.consumer.ConsoleConsumer"
	consumerGroups    = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
	brokerAPIVersions = "org.apache.kafka.tools.BrokerApiVersionsCommand"
	getOffsets        = "org.apache.kafka.tools.GetOffsetShell"
	dumpLog           = "org.apache.kafka.tools.DumpLogSegments"

	kafkaConfigs         = "kafka.admin.ConfigCommand"
	kafkaACLs            = "org.apache.kafka.tools.AclCommand"
	groupsCommand        = "org.apache.kafka.tools.GroupsCommand"
	kafkaTransactions    = "org.apache.kafka.tools.TransactionsCommand"
	producerPerformance  = "org.apache.kafka.tools.ProducerPerformance"
	consoleShareConsumer = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"

	javaNullMarker      = "\x02null"
	javaHeaderSeparator = "\x1d"
)

// command is the JVM for a main class, which uses the class's archive if there
// is one. The context kills it.
func (j *javaTools) command(ctx context.Context, class string, args ...string) *exec.Cmd {
	flags := []string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:disable", "-Dlog4j2.configurationFile=" + j.log4j}
	if _, err := os.Stat(j.archive(class)); err == nil {
		flags = append(flags, "-XX:SharedArchiveFile="+j.archive(class))
	}
	cmd := exec.CommandContext(ctx, "java", slices.Concat(flags, []string{"-cp", strings.Join(j.jars, ":"), class}, args)...)
	cmd.Stderr = j.log
	return cmd
}

func (j *javaTools) archive(class string) string { return filepath.Join(j.archives, class+".jsa") }

// run runs a main class to its end and returns its standard output.
func (j *javaTools) run(ctx context.Context, stdin io.Reader, class string, args ...string) ([]byte, error) {
	cmd := j.command(ctx, class, args...)
	if _, err := os.Stat(j.archive(class)); err == nil {
		return output(cmd, stdin, j.log)
	}
	fresh := fmt.Sprintf("%s.%d", j.archive(class), time.Now().UnixNano())
	cmd.Args = slices.Insert(cmd.Args, 1, "-XX:ArchiveClassesAtExit="+fresh)
	out, err := output(cmd, stdin, j.log)
	if err == nil {
		// Without an archive the next run is slower, no more than that.
		_ = os.Rename(fresh, j.archive(class))
	}
	return out, err
}

// kafkaTopics is kafka-topics.
type kafkaTopics struct {
	*javaTools
	bootstrap string
}

func (t kafkaTopics) topics(ctx context.Context, args ...string) ([]byte, error) {
	return t.run(ctx, nil, topicCommand, append([]string{"--bootstrap-server", t.bootstrap}, args...)...)
}

func (t kafkaTopics) Create(ctx context.Context, topic string, partitions int) error {
	out, err := t.topics(ctx, "--create", "--topic", topic, "--partitions", strconv.Itoa(partitions), "--replication-factor", "1")
	if err == nil && !strings.Contains(string(out), "Created topic "+topic) {
		err = fmt.Errorf("kafka-topics printed %q", out)
	}
	return err
}

func (t kafkaTopics) Topics(ctx context.Context) ([]string, error) {
	out, err := t.topics(ctx, "--list")
	return strings.Fields(string(out)), err
}

func (t kafkaTopics) Describe(ctx context.Context, topic string) (description, error) {
	out, err := t.topics(ctx, "--describe", "--topic", topic)
	d := description{Partitions: strings.Count(string(out), "\tPartition: ")}
	if err == nil && !strings.Contains(string(out), fmt.Sprintf("PartitionCount: %d\t", d.Partitions)) {
		err = fmt.Errorf("kafka-topics printed %q", out)
	}
	return d, err
}

func (t kafkaTopics) Delete(ctx context.Context, topic string) error {
	_, err := t.topics(ctx, "--delete", "--topic", topic)
	return err
}

// kafkaConsoleProducer is kafka-console-producer.
type kafkaConsoleProducer struct {
	*javaTools
	bootstrap string
}

func (p kafkaConsoleProducer) args(topic, codec string, more ...string) []string {
	return append([]string{"--bootstrap-server", p.bootstrap, "--topic", topic, "--compression-codec", codec,
		"--reader-property", "parse.key=true", "--reader-property", "key.separator=" + fieldSeparator,
		"--request-required-acks", "all"}, more...)
}

func (p kafkaConsoleProducer) Produce(ctx context.Context, topic, codec string, idempotent bool, rs []record) error {
	var in bytes.Buffer
	headers := slices.ContainsFunc(rs, func(r record) bool { return r.Headers != nil })
	orNull := func(b []byte) []byte {
		if b == nil {
			return []byte(javaNullMarker)
		}
		return b
	}
	for _, r := range rs {
		if headers {
			for i, h := range r.Headers {
				if i > 0 {
					in.WriteString(",")
				}
				in.WriteString(h.Name + ":")
				in.Write(h.Value)
			}
			in.WriteString("\t")
		}
		in.Write(orNull(r.Key))
		in.WriteString(fieldSeparator)
		in.Write(orNull(r.Value))
		in.WriteString("\n")
	}
	args := p.args(topic, codec, "--reader-property", "parse.headers="+strconv.FormatBool(headers),
		"--reader-property", "null.marker="+javaNullMarker,
		"--command-property", "enable.idempotence="+strconv.FormatBool(idempotent))
	_, err := p.run(ctx, &in, consoleProducer, args...)
	return err
}

func (p kafkaConsoleProducer) Feed(topic, codec string) *exec.Cmd {
	// Its own default of 3 retries would give up while the broker restarts.
	return p.command(context.Background(), consoleProducer, p.args(topic, codec,
		"--message-send-max-retries", "2147483647", "--command-property", "delivery.timeout.ms=300000",
		"--command-property", "request.timeout.ms=10000", "--command-property", "linger.ms=20",
		"--command-property", "reconnect.backoff.max.ms=500", "--max-block-ms", "300000")...)
}

// kafkaConsoleConsumer is kafka-console-consumer.
type kafkaConsoleConsumer struct {
	*javaTools
	bootstrap string
}

func (c kafkaConsoleConsumer) args(topic, group string, properties ...string) []string {
	args := []string{"--bootstrap-server", c.bootstrap, "--topic", topic, "--group", group,
		"--command-property", "auto.offset.reset=earliest", "--command-property", "auto.commit.interval.ms=500",
		"--command-property", "reconnect.backoff.max.ms=500"}
	properties = append(properties, "print.partition=true", "print.offset=true", "print.key=true", "key.separator="+fieldSeparator)
	for _, p := range properties {
		args = append(args, "--formatter-property", p)
	}
	return args
}

func (c kafkaConsoleConsumer) Consume(ctx context.Context, topic, group string, members, count int) ([]record, error) {
	args := c.args(topic, group, "print.timestamp=true", "print.headers=true", "null.literal="+javaNullMarker,
		"headers.separator="+javaHeaderSeparator, "line.separator="+recordSeparator)
	if members == 1 {
		out, err := c.run(ctx, nil, consoleConsumer, append(args, "--max-messages", strconv.Itoa(count))...)
		if err != nil {
			return nil, err
		}
		var rs []record
		err = splitRecords(bytes.NewReader(out), []byte(recordSeparator), func(b []byte) error {
			r, err := parseConsole(b)
			rs = append(rs, r)
			return err
		})
		return rs, err
	}
	cmds := make([]*exec.Cmd, members)
	for i := range cmds {
		cmds[i] = c.command(ctx, consoleConsumer, args...)
	}
	return readTogether(cmds, true, count, []byte(recordSeparator), parseConsole)
}

func parseConsole(b []byte) (record, error) {
	f := bytes.SplitN(b, []byte(fieldSeparator), 6)
	if len(f) != 6 {
		return record{}, fmt.Errorf("the console consumer printed %.200q", b)
	}
	after := func(b []byte) int64 {
		_, digits, _ := strings.Cut(string(b), ":")
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	orNil := func(b []byte) []byte {
		if string(b) == javaNullMarker {
			return nil
		}
		return bytes.Clone(b)
	}
	r := record{Timestamp: after(f[0]), Partition: int32(after(f[1])), Offset: after(f[2]), Key: orNil(f[4]), Value: orNil(f[5])}
	if string(f[3]) != "NO_HEADERS" {
		for pair := range bytes.SplitSeq(f[3], []byte(javaHeaderSeparator)) {
			name, value, _ := bytes.Cut(pair, []byte(":"))
			r.Headers = append(r.Headers, header{Name: string(name), Value: orNil(value)})
		}
	}
	return r, nil
}

func (c kafkaConsoleConsumer) Drain(topic, group string, members int, dir string) ([]*exec.Cmd, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cmds := make([]*exec.Cmd, members)
	for i := range cmds {
		f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)+".out"))
		if err != nil {
			return nil, err
		}
		cmds[i] = c.command(context.Background(), consoleConsumer, c.args(topic, group)...)
		cmds[i].Stdout = f
	}
	return cmds, nil
}

// kafkaConsumerGroups is kafka-consumer-groups.
type kafkaConsumerGroups struct {
	*javaTools
	bootstrap string
}

func (g kafkaConsumerGroups) groups(ctx context.Context, args ...string) ([]byte, error) {
	return g.run(ctx, nil, consumerGroups, append([]string{"--bootstrap-server", g.bootstrap}, args...)...)
}

func (g kafkaConsumerGroups) Groups(ctx context.Context) ([]string, error) {
	out, err := g.groups(ctx, "--list")
	return strings.Fields(string(out)), err
}

func (g kafkaConsumerGroups) Group(ctx context.Context, group, topic string) (groupInfo, error) {
	offsets, err1 := g.groups(ctx, "--describe", "--group", group)
	state, err2 := g.groups(ctx, "--describe", "--group", group, "--state")
	if err := errors.Join(err1, err2); err != nil {
		return groupInfo{}, err
	}
	info := groupInfo{Lag: map[int32]int64{}}
	for line := range strings.Lines(string(state)) {
		if f := strings.Fields(line); len(f) >= 6 && f[0] == group {
			info.State = f[len(f)-2]
			info.Members, _ = strconv.Atoi(f[len(f)-1])
		}
	}
	for line := range strings.Lines(string(offsets)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != group || f[1] != topic || f[3] == "-" {
			continue
		}
		partition, err1 := strconv.Atoi(f[2])
		lag, err2 := strconv.ParseInt(f[5], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return info, fmt.Errorf("kafka-consumer-groups printed %q: %w", line, err)
		}
		info.Lag[int32(partition)] = lag
	}
	return info, nil
}

func (g kafkaConsumerGroups) DeleteGroup(ctx context.Context, group string) error {
	out, err := g.groups(ctx, "--delete", "--group", group)
	if err == nil && !strings.Contains(string(out), "was successful") {
		err = fmt.Errorf("kafka-consumer-groups printed %q", out)
	}
	return err
}

// kafkaGetOffsets is kafka-get-offsets.
type kafkaGetOffsets struct {
	*javaTools
	bootstrap string
}

func (g kafkaGetOffsets) Times(ctx context.Context, topic string, partitions int, timestamp int64) (map[int32]int64, error) {
	out, err := g.run(ctx, nil, getOffsets, "--bootstrap-server", g.bootstrap, "--topic", topic, "--time", strconv.FormatInt(timestamp, 10))
	offsets := map[int32]int64{}
	for p := range partitions {
		offsets[int32(p)] = -1 // it leaves out partitions without an answer
	}
	for line := range strings.Lines(string(out)) {
		var p int32
		var o int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(line, topic), ":%d:%d", &p, &o); err != nil {
			return nil, fmt.Errorf("kafka-get-offsets printed %q: %w", line, err)
		}
		offsets[p] = o
	}
	return offsets, err
}

// kafkaAPIVersions is kafka-broker-api-versions.
type kafkaAPIVersions struct {
	*javaTools
	bootstrap string
}

func (a kafkaAPIVersions) APIs(ctx context.Context) ([]string, error) {
	out, err := a.run(ctx, nil, brokerAPIVersions, "--bootstrap-server", a.bootstrap)
	return strings.Split(strings.TrimSpace(string(out)), "\n"), err
}
