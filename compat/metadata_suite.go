package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const metadataWithin = 3 * time.Minute

// Kafka makes snapshots now and then, so that there is one to compare with; Rotpeter
// makes one every few requests and keeps little, so that the log's beginning goes.
var (
	metadataKafka = []string{
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:ANONYMOUS",
		"metadata.log.max.record.bytes.between.snapshots=1500",
	}
	metadataRotpeter = []string{
		"metadata.log.max.record.bytes.between.snapshots=3000", "internal.metadata.log.segment.bytes=6000", "metadata.max.retention.bytes=30000",
	}
)

// metadataChecks hands the metadata of a directory that kafka-storage formatted from
// one broker to the other: what Kafka keeps there must come back to it although only
// our snapshot holds it.
func (b *bench) metadataChecks(ctx context.Context) error {
	if b.target == "kafka" {
		return nil // there is nobody to hand it to
	}
	java, err := b.cache.java()
	if err != nil {
		b.report.add(result{suite: "metadata", client: "kafka", check: "metadata log", outcome: notRun, reason: err.Error()})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, metadataWithin)
	defer cancel()
	t, err := b.newTarget("metadata", metadataRotpeter...)
	if err != nil {
		return err
	}
	m := &metadataRun{b: b, java: java, rotpeter: t}
	if m.kafka, err = m.newKafka(); err != nil {
		return err
	}
	defer func() {
		for _, t := range []*target{m.kafka, m.rotpeter} {
			if t.cmd != nil {
				t.Kill()
			}
		}
	}()
	for _, step := range []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"a directory that kafka-storage formatted, with SCRAM and feature levels, starts", m.startFormatted},
		{"Kafka goes on with it and is filled", m.fill},
		{"snapshots are made and the log begins behind them", m.snapshot},
		{"kafka-dump-log reads snapshots and log", m.dump},
		{"the snapshot has all that Kafka's had", m.compare},
		{"Kafka starts on it and shows the same", m.giveBack},
	} {
		began := time.Now()
		measure, err := step.run(ctx)
		b.report.note("metadata", "metadata log", step.name, time.Since(began), measure, err)
		if err != nil {
			return nil // the rest would fail for the same reason
		}
	}
	return nil
}

// metadataRun is one directory that two brokers serve in turn.
type metadataRun struct {
	b               *bench
	java            *javaTools
	kafka, rotpeter *target
	facts           string // as Kafka showed them
	kept            string // a copy of Kafka's newest snapshot
}

func (m *metadataRun) metadataDir() string {
	return filepath.Join(m.rotpeter.data, "__cluster_metadata-0")
}

// newKafka has kafka-storage format the directory for a dynamic quorum. The broker is
// not started.
func (m *metadataRun) newKafka() (*target, error) {
	port, err1 := freePort()
	quorum, err2 := freePort()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	bootstrap := fmt.Sprintf("127.0.0.1:%d", port)
	properties := regexp.MustCompile(`(?m)^controller\.quorum\.voters=.*$`).ReplaceAllString(
		kafkaProperties(bootstrap, bootstrap, quorum, m.rotpeter.data), fmt.Sprintf("controller.quorum.bootstrap.servers=127.0.0.1:%d", quorum))
	config := filepath.Join(filepath.Dir(m.rotpeter.data), "server.properties")
	if err := os.WriteFile(config, []byte(properties+strings.Join(metadataKafka, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	if _, err := m.java.run(context.Background(), nil, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", config, "--standalone",
		"--add-scram", "SCRAM-SHA-256=[name=formatted,password=secret]", "--feature", "transaction.version=1"); err != nil {
		return nil, err
	}
	m.rotpeter.bootstrap = bootstrap
	return kafkaOn(m.java, config, m.rotpeter.data, bootstrap, m.b.log), nil
}

// kafkaOn is a Kafka on a data directory that is formatted.
func kafkaOn(java *javaTools, config, data, bootstrap string, log io.Writer) *target {
	return &target{name: "kafka", data: data, log: log, bootstrap: bootstrap, start: func(t *target) (*exec.Cmd, error) {
		cmd := java.command(context.Background(), "kafka.Kafka", config)
		cmd.Stderr = t.log
		cmd.Args = append([]string{cmd.Args[0], "-Xmx1g", "-Dcompat.log.level=INFO"}, withoutHeap(cmd.Args[1:])...)
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return cmd, waitServing(t.bootstrap)
	}}
}

// startFormatted starts our broker first: nobody has written a metadata log yet.
func (m *metadataRun) startFormatted(ctx context.Context) (string, error) {
	if err := m.rotpeter.Start(); err != nil {
		return "", err
	}
	ref, err := newReference(m.rotpeter.bootstrap)
	if err != nil {
		return "", err
	}
	defer ref.close()
	if _, err := ref.admin.CreateTopic(ctx, 2, 1, nil, "first"); err != nil {
		return "", err
	}
	level, err := finalized(ctx, ref, "kraft.version")
	if err == nil && level != 1 {
		err = fmt.Errorf("kraft.version is finalized at %d, the directory was formatted with 1", level)
	}
	return "", errors.Join(err, m.rotpeter.Stop())
}

// finalized is the level of a feature as ApiVersions tells it.
func finalized(ctx context.Context, ref *reference, feature string) (int16, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "compat", "1"
	resp, err := req.RequestWith(ctx, ref.cl)
	if err != nil {
		return 0, err
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == feature {
			return f.MaxVersionLevel, nil
		}
	}
	return 0, nil
}

// fill has Kafka write metadata of every kind that its clients can make it write.
func (m *metadataRun) fill(ctx context.Context) (string, error) {
	if err := m.kafka.Start(); err != nil {
		return "", err
	}
	ref, err := newReference(m.kafka.bootstrap)
	if err != nil {
		return "", err
	}
	defer ref.close()
	if err := fillMetadata(ctx, ref); err != nil {
		return "", err
	}
	level, err := finalized(ctx, ref, "transaction.version")
	if err == nil && level != 1 {
		err = fmt.Errorf("transaction.version is finalized at %d, the directory was formatted with 1", level)
	}
	if err != nil {
		return "", err
	}
	if m.facts, err = metadataFacts(ctx, ref); err != nil {
		return "", err
	}
	if !strings.Contains(m.facts, "scram formatted") || !strings.Contains(m.facts, "topic first") {
		return "", fmt.Errorf("what was there before is not shown by Kafka: %s", m.facts)
	}
	// A few more records, so that Kafka's newest snapshot has everything.
	for i := range 30 {
		name := fmt.Sprintf("scratch-%d", i)
		_, err1 := ref.admin.CreateTopic(ctx, 3, 1, nil, name)
		_, err2 := ref.admin.DeleteTopic(ctx, name)
		if err := errors.Join(err1, err2); err != nil {
			return "", err
		}
	}
	if err := m.kafka.Stop(); err != nil {
		return "", err
	}
	made, err := m.snapshots()
	if err == nil && len(made) < 2 {
		err = fmt.Errorf("the snapshots that Kafka left are %v", made)
	}
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(made[len(made)-1])
	if err != nil {
		return "", err
	}
	m.kept = filepath.Join(filepath.Dir(m.rotpeter.data), filepath.Base(made[len(made)-1]))
	return fmt.Sprintf("%d facts", strings.Count(m.facts, "\n")), os.WriteFile(m.kept, text, 0o644)
}

// snapshots are the files of the snapshots, oldest first.
func (m *metadataRun) snapshots() ([]string, error) {
	return filepath.Glob(filepath.Join(m.metadataDir(), "*.checkpoint"))
}

func fillMetadata(ctx context.Context, ref *reference) error {
	compact := "compact"
	for name, configs := range map[string]map[string]*string{"meta-a": nil, "meta-b": {"cleanup.policy": &compact}, "meta-gone": nil} {
		if resp, err := ref.admin.CreateTopic(ctx, 3, 1, configs, name); err != nil || resp.Err != nil {
			return errors.Join(err, resp.Err)
		}
	}
	_, err := ref.admin.DeleteTopic(ctx, "meta-gone")
	acl := func(user, topic string) *kadm.ACLBuilder {
		return kadm.NewACLs().Topics(topic).ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpRead, kadm.OpWrite).Allow("User:" + user).AllowHosts("*")
	}
	for _, a := range []*kadm.ACLBuilder{acl("reader", "meta-"), acl("gone", "meta-a"), kadm.NewACLs().Groups("g").Operations(kadm.OpRead).Deny("User:ö=1").DenyHosts("10.0.0.1")} {
		made, e := ref.admin.CreateACLs(ctx, a)
		err = errors.Join(err, e)
		for _, r := range made {
			err = errors.Join(err, r.Err)
		}
	}
	_, e := ref.admin.DeleteACLs(ctx, kadm.NewACLs().Topics("meta-a").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpRead, kadm.OpWrite).Allow("User:gone").AllowHosts("*"))
	err = errors.Join(err, e)
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		done, e := ref.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{
			{User: "alice", Mechanism: mechanism, Iterations: 8192, Password: "pass"}, {User: "gone", Mechanism: mechanism, Iterations: 4096, Password: "pass"},
		})
		err = errors.Join(err, e, done.Error())
		done, e = ref.admin.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "gone", Mechanism: mechanism}}, nil)
		err = errors.Join(err, e, done.Error())
	}
	quota := func(key string, value float64, remove bool, entity ...kadm.ClientQuotaEntityComponent) kadm.AlterClientQuotaEntry {
		return kadm.AlterClientQuotaEntry{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: key, Value: value, Remove: remove}}}
	}
	user, anybody := kadm.ClientQuotaEntityComponent{Type: "user", Name: kadm.StringPtr("alice")}, kadm.ClientQuotaEntityComponent{Type: "client-id"}
	for _, remove := range []bool{false, true} {
		entries := []kadm.AlterClientQuotaEntry{quota("request_percentage", 12.5, remove, user)}
		if !remove {
			entries = append(entries, quota("producer_byte_rate", 1024, false, user, anybody), quota("connection_creation_rate", 7, false, kadm.ClientQuotaEntityComponent{Type: "ip"}))
		}
		_, e := ref.admin.AlterClientQuotas(ctx, entries)
		err = errors.Join(err, e)
	}
	return errors.Join(err, setConfigs(ctx, ref), ref.produce(ctx, "meta-a", "none", false, []record{{Value: []byte("x")}}))
}

// setConfigs sets something of every kind of resource.
func setConfigs(ctx context.Context, ref *reference) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for _, c := range []struct {
		kind             kmsg.ConfigResourceType
		name, key, value string
	}{
		{kmsg.ConfigResourceTypeTopic, "meta-a", "retention.ms", "123456789"},
		{kmsg.ConfigResourceTypeBroker, "", "log.retention.ms", "987654321"},
		{kmsg.ConfigResourceTypeBroker, "1", "log.cleaner.threads", "2"},
		{kmsg.ConfigResourceTypeGroupConfig, "g", "consumer.session.timeout.ms", "50000"},
		{kmsg.ConfigResourceTypeClientMetrics, "m", "interval.ms", "60000"},
	} {
		value := c.value
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = c.kind, c.name
		r.Configs = []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: c.key, Value: &value}}
		req.Resources = append(req.Resources, r)
	}
	resp, err := req.RequestWith(ctx, ref.cl)
	if err != nil {
		return err
	}
	for _, r := range resp.Resources {
		if r.ErrorCode != 0 {
			err = errors.Join(err, fmt.Errorf("alter configs of %q: error %d", r.ResourceName, r.ErrorCode))
		}
	}
	return err
}

// metadataFacts is what Kafka shows of its metadata, a fact a line.
func metadataFacts(ctx context.Context, ref *reference) (string, error) {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	topics, err := ref.admin.ListTopics(ctx)
	for _, t := range topics {
		add("topic %s id %s with %d partitions", t.Topic, t.ID, len(t.Partitions))
	}
	configs, e := ref.admin.DescribeTopicConfigs(ctx, "meta-a", "meta-b")
	err = errors.Join(err, e)
	brokers, e := ref.admin.DescribeBrokerConfigs(ctx, 1)
	err = errors.Join(err, e)
	for _, r := range append(configs, brokers...) {
		for _, c := range r.Configs {
			if strings.HasPrefix(c.Source.String(), "DYNAMIC") {
				add("config %s of %s is %s from %s", c.Key, r.Name, c.MaybeValue(), c.Source)
			}
		}
	}
	anything := kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Operations(kadm.OpAny).Allow().AllowHosts().Deny().DenyHosts()
	acls, e := ref.admin.DescribeACLs(ctx, anything)
	err = errors.Join(err, e)
	for _, r := range acls {
		for _, a := range r.Described {
			add("acl %+v", a)
		}
	}
	users, e := ref.admin.DescribeUserSCRAMs(ctx)
	err = errors.Join(err, e)
	for _, u := range users {
		for _, c := range u.CredInfos {
			add("scram %s %s %d", u.User, c.Mechanism, c.Iterations)
		}
	}
	quotas, e := ref.admin.DescribeClientQuotas(ctx, false, nil)
	err = errors.Join(err, e)
	for _, q := range quotas {
		for _, v := range q.Values {
			add("quota %s %s", q.Entity, v)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n", err
}

// snapshot makes our broker write enough for snapshots and for the log to be cut.
func (m *metadataRun) snapshot(ctx context.Context) (string, error) {
	before, err := m.snapshots()
	if err != nil {
		return "", err
	}
	if err := m.rotpeter.Start(); err != nil {
		return "", err
	}
	ref, err := newReference(m.rotpeter.bootstrap)
	if err != nil {
		return "", err
	}
	defer ref.close()
	first := filepath.Join(m.metadataDir(), fmt.Sprintf("%020d.log", 0))
	made := 0
	for i := 0; ; i++ {
		name := fmt.Sprintf("ours-%d", i)
		_, err1 := ref.admin.CreateTopic(ctx, 5, 1, nil, name)
		_, err2 := ref.admin.DeleteTopic(ctx, name)
		if err := errors.Join(err1, err2); err != nil {
			return "", err
		}
		now, err := m.snapshots()
		if err != nil {
			return "", err
		}
		made = max(made, len(now))
		// All of Kafka's are gone: only ours say what was in the log that is gone, too.
		_, statErr := os.Stat(first)
		if i > 10 && os.IsNotExist(statErr) && len(now) > 0 && !slices.ContainsFunc(now, func(s string) bool { return slices.Contains(before, s) }) {
			return fmt.Sprintf("after %d topics; newest %s", i+1, filepath.Base(now[len(now)-1])), m.rotpeter.Stop()
		}
		if i > 3000 {
			return "", fmt.Errorf("after %d topics the log still has its beginning, and the snapshots are %v", i, now)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// dump has kafka-dump-log read all files of the metadata log.
func (m *metadataRun) dump(ctx context.Context) (string, error) {
	logs, err := filepath.Glob(filepath.Join(m.metadataDir(), "*.log"))
	snaps, err2 := m.snapshots()
	if err := errors.Join(err, err2); err != nil {
		return "", err
	}
	return dumpFiles(ctx, m.java, []string{"--cluster-metadata-decoder"}, append(snaps, logs...))
}

// compare holds the records of our snapshot against those of Kafka's. Left out is what
// the two brokers did between them: registrations, elections and producer ids.
func (m *metadataRun) compare(ctx context.Context) (string, error) {
	ours, err := m.snapshots()
	if err != nil {
		return "", err
	}
	a, err1 := m.payloads(ctx, m.kept)
	b, err2 := m.payloads(ctx, ours[len(ours)-1])
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	if a != b {
		return "", fmt.Errorf("the records differ, - Kafka's, + ours:\n%s", differences(a, b))
	}
	kinds := map[string]int{}
	for _, kind := range regexp.MustCompile(`"type":"([A-Z_]+)"`).FindAllStringSubmatch(b, -1) {
		kinds[kind[1]]++
	}
	for _, kind := range []string{"ACCESS_CONTROL_ENTRY_RECORD", "USER_SCRAM_CREDENTIAL_RECORD", "CLIENT_QUOTA_RECORD", "CONFIG_RECORD", "FEATURE_LEVEL_RECORD", "TOPIC_RECORD"} {
		if kinds[kind] == 0 {
			return "", fmt.Errorf("the snapshots have no %s: %v", kind, kinds)
		}
	}
	return fmt.Sprint(kinds), nil
}

// payloads are the records of a snapshot, sorted.
func (m *metadataRun) payloads(ctx context.Context, file string) (string, error) {
	var out bytes.Buffer
	cmd := m.java.command(ctx, dumpLog, "--cluster-metadata-decoder", "--skip-record-metadata", "--files", file)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return "", err
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		payload, ok := strings.CutPrefix(line, "| payload: ")
		if !ok || regexp.MustCompile(`"type":"(REGISTER_|PARTITION_|PRODUCER_IDS_)|"name":"(scratch|ours)-`).MatchString(payload) {
			continue
		}
		lines = append(lines, payload)
	}
	slices.SortFunc(lines, cmp.Compare)
	return strings.Join(lines, ""), nil
}

// giveBack starts Kafka on a log without its beginning and with only our snapshot.
func (m *metadataRun) giveBack(ctx context.Context) (string, error) {
	if err := m.kafka.Start(); err != nil {
		return "", err
	}
	ref, err := newReference(m.kafka.bootstrap)
	if err != nil {
		return "", err
	}
	defer ref.close()
	facts, err := metadataFacts(ctx, ref)
	if err == nil && facts != m.facts {
		err = fmt.Errorf("the metadata differs:\n%s", differences(m.facts, facts))
	}
	return fmt.Sprintf("%d facts", strings.Count(facts, "\n")), errors.Join(err, m.kafka.Stop())
}
