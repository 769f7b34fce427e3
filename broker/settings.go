package broker

import (
	"math"
	"strings"
	"time"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

// This file turns settings into what each room wants to know of them.

func millis(n int64) time.Duration {
	if n > int64(time.Duration(1<<63-1)/time.Millisecond) {
		return 1<<63 - 1
	}
	return time.Duration(n) * time.Millisecond
}

// groupOptions are the settings of groups that hold until the next start.
func groupOptions(c *config.Config, newID func() [16]byte) group.Options {
	o := group.DefaultOptions(
		func(prefix string) string { return prefix + "-" + uuidText(newID()) },
		func() string { return metadata.UUIDString(newID()) },
	)
	o.MinSessionTimeout = millis(c.Int("group.min.session.timeout.ms"))
	o.MaxSessionTimeout = millis(c.Int("group.max.session.timeout.ms"))
	o.InitialRebalanceDelay = millis(c.Int("group.initial.rebalance.delay.ms"))
	o.MaxSize = int(c.Int("group.max.size"))
	o.ConsumerMaxSize = int(c.Int("group.consumer.max.size"))
	o.Assignors = assignors(c.Strings("group.consumer.assignors"))
	o.Migration = migration(c.Text("group.consumer.migration.policy"))
	o.RegexRefreshInterval = millis(c.Int("group.consumer.regex.refresh.interval.ms"))
	o.OffsetMetadataMaxChars = int(c.Int("offset.metadata.max.bytes"))
	o.OffsetsRetention = time.Duration(c.Int("offsets.retention.minutes")) * time.Minute
	o.OffsetsRetentionCheckInterval = millis(c.Int("offsets.retention.check.interval.ms"))
	return o
}

// assignors are those of group.consumer.assignors, by name; the full names of Kafka's classes mean the same
// (Kafka's GroupCoordinatorConfig).
func assignors(names []string) []assignor.Assignor {
	var all []assignor.Assignor
	for _, name := range names {
		switch name {
		case "uniform", "org.apache.kafka.coordinator.group.assignor.UniformAssignor":
			all = append(all, assignor.Uniform())
		case "range", "org.apache.kafka.coordinator.group.assignor.RangeAssignor":
			all = append(all, assignor.Range())
		}
	}
	return all
}

// migration reads group.consumer.migration.policy.
func migration(policy string) group.Migration {
	switch strings.ToLower(policy) {
	case "upgrade":
		return group.MigrationUpgrade
	case "downgrade":
		return group.MigrationDowngrade
	case "disabled":
		return group.MigrationDisabled
	}
	return group.MigrationBidirectional
}

// uuidText is the form of java.util.UUID, which Kafka uses in member ids.
func uuidText(id [16]byte) string {
	const hex = "0123456789abcdef"
	text := make([]byte, 0, 36)
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, hex[b>>4], hex[b&15])
	}
	return string(text)
}

// resolved is what the settings of a topic came to.
type resolved struct {
	conf  *config.Config
	topic *metadata.Topic // nil: of all topics without settings of their own
	log   log.Config
}

// topicLogConfig is the log's view of a topic's effective settings. Most topics have none of their own, and the partitions of a
// topic are opened one after the other: the last results are kept. Both keys are immutable.
func (b *Broker) topicLogConfig(t *metadata.Topic) log.Config {
	conf, key, last := b.conf.Load(), t, &b.lastView
	if len(t.Configs) == 0 {
		key, last = nil, &b.plainView
	}
	if r := last.Load(); r != nil && r.conf == conf && r.topic == key {
		return r.log
	}
	view, err := conf.Topic(t.Configs)
	if err != nil {
		b.log.Warn("a topic has settings that cannot be read: their defaults stand", "topic", t.Name, "err", err)
	}
	r := &resolved{conf, key, logConfig(view)}
	last.Store(r)
	return r.log
}

// logConfig hands on what config resolved.
func logConfig(v config.TopicView) log.Config {
	c := log.Config{
		SegmentBytes: int(v.SegmentBytes), SegmentMillis: v.SegmentMillis, SegmentJitterMillis: v.SegmentJitterMillis,
		SegmentIndexBytes: int(v.SegmentIndexBytes), IndexIntervalBytes: int(v.IndexIntervalBytes), MaxMessageBytes: int(v.MaxMessageBytes),
		Delete: v.Delete, Compact: v.Compact, RetentionMillis: v.RetentionMillis, RetentionBytes: v.RetentionBytes,
		KeepCompression: v.CompressionType == "producer",
		LogAppendTime:   v.LogAppendTime, TimestampBeforeMaxMillis: v.TimestampBeforeMaxMillis, TimestampAfterMaxMillis: v.TimestampAfterMaxMillis,
		FlushMessages: v.FlushMessages, FlushMillis: v.FlushMillis, FileDeleteDelayMillis: v.FileDeleteDelayMillis,
		MaxCompactionLagMillis: v.MaxCompactionLagMillis, MinCompactionLagMillis: v.MinCompactionLagMillis,
		DeleteRetentionMillis: v.DeleteRetentionMillis, MinCleanableRatio: v.MinCleanableDirtyRatio,
		MinInSyncReplicas: v.MinInsyncReplicas,
	}
	if codec, ok := batch.ParseCodec(v.CompressionType); ok {
		c.Compression = codec // "uncompressed" is no codec's name: the zero value is None
	}
	switch c.Compression {
	case batch.Gzip:
		c.CompressionLevel = max(v.GzipLevel, 0) // -1 is the codec's default too
	case batch.LZ4:
		c.CompressionLevel = v.LZ4Level
	case batch.Zstd:
		c.CompressionLevel = v.ZstdLevel
	}
	return c
}

// storeOptions are the settings of the data directory.
func (b *Broker) storeOptions(o Options) log.Options {
	c := o.Config
	return log.Options{
		Log: b.log, NewID: o.NewID,
		Random:    func() int64 { return int64(uint32(o.Random())) },
		OpenFiles: o.OpenFiles / max(len(o.LogDirs), 1),
		Known: func(id [16]byte) bool {
			im := b.image()
			return im != nil && im.TopicByID(id) != nil
		},
		InitialDelay:            millis(c.Int("log.initial.task.delay.ms")),
		RetentionCheck:          millis(c.Int("log.retention.check.interval.ms")),
		Checkpoint:              millis(c.Int("log.flush.offset.checkpoint.interval.ms")),
		StartCheckpoint:         millis(c.Int("log.flush.start.offset.checkpoint.interval.ms")),
		ProducerExpiration:      millis(c.Int("producer.id.expiration.ms")),
		ProducerExpirationCheck: millis(c.Int("producer.id.expiration.check.interval.ms")),
		Cleaner:                 b.cleanerConfig(c),
		RecordsBytes:            b.memory.limits.RecordsBytes,
		Short:                   b.memory.short,
	}
}

// cleanerConfig are the settings of compaction, which may change at any time.
func (b *Broker) cleanerConfig(c *config.Config) log.CleanerConfig {
	return log.CleanerConfig{
		Enabled: c.Bool("log.cleaner.enable"), Threads: int(c.Int("log.cleaner.threads")),
		DedupeBytes: b.dedupeBytes(c), IOBytes: int(c.Int("log.cleaner.io.buffer.size")),
		LoadFactor: c.Float("log.cleaner.io.buffer.load.factor"), Backoff: millis(c.Int("log.cleaner.backoff.ms")),
		MaxBytesPerSecond: c.Float("log.cleaner.io.max.bytes.per.second"),
	}
}

// dedupeBytes is log.cleaner.dedupe.buffer.size, within the limit of memory if there is one.
func (b *Broker) dedupeBytes(c *config.Config) int64 {
	n := c.Int("log.cleaner.dedupe.buffer.size")
	if m := &b.memory.limits; m.Max > 0 {
		return min(n, m.DedupeBytes)
	}
	return n
}

// metadataLogConfig is how KRaft keeps its log: nothing goes by age or size, only
// what a snapshot stands for, in segments of its own size.
func metadataLogConfig(c *config.Config) log.Config {
	l := log.DefaultConfig()
	l.SegmentBytes = int(c.Int("metadata.log.segment.bytes"))
	if n := c.Int("internal.metadata.log.segment.bytes"); n > 0 {
		l.SegmentBytes = int(n)
	}
	l.SegmentMillis = c.Int("metadata.log.segment.ms")
	l.Delete, l.RetentionMillis, l.Irreplaceable = false, -1, true
	l.MaxMessageBytes = math.MaxInt32
	return l
}
