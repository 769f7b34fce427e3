package config

import (
	"errors"
	"slices"
	"strings"
)

const (
	minuteMillis = 60 * 1000
	hourMillis   = 60 * minuteMillis
)

// NodeID is this node's id, 0 or more.
func (c *Config) NodeID() int32 { return int32(c.Int("node.id")) }

// MetadataLogDir is the directory of the metadata log, as it was written:
// metadata.log.dir, or the first of LogDirs.
func (c *Config) MetadataLogDir() string {
	if dir := c.Text("metadata.log.dir"); dir != "" {
		return dir
	}
	return c.LogDirs()[0]
}

// LogDirs are the data directories, as they were written; at least one.
func (c *Config) LogDirs() []string {
	if dirs := c.Strings("log.dirs"); dirs != nil {
		return dirs
	}
	return c.Strings("log.dir")
}

// RequestMemoryBytes bounds the bytes of requests in memory over all
// connections: queued.max.request.bytes if it is set, otherwise
// rotpeter.request.memory.bytes.
func (c *Config) RequestMemoryBytes() int64 {
	if n := c.Int("queued.max.request.bytes"); n > 0 {
		return n
	}
	return c.Int("rotpeter.request.memory.bytes")
}

// familyMillis resolves a family of settings in different units: the first
// one that is set, or the default of the last one that has any, in
// milliseconds.
func (c *Config) familyMillis(names []string) int64 {
	for _, name := range names {
		if v := c.value(name); v != nil {
			return v.(int64) * unitMillis(name)
		}
	}
	panic("config: no default in " + strings.Join(names, ", "))
}

func unitMillis(name string) int64 {
	switch {
	case strings.HasSuffix(name, ".hours"):
		return hourMillis
	case strings.HasSuffix(name, ".minutes"):
		return minuteMillis
	}
	return 1
}

// topicDefault gives what a topic without an override uses
// (KafkaConfig.extractLogConfigMap).
func (c *Config) topicDefault(s Setting) value {
	switch len(s.Synonyms) {
	case 0:
		text, ok := s.defaultText()
		if !ok {
			return nil
		}
		v, err := s.parse(text)
		if err != nil {
			panic("config: default of " + s.Name + ": " + err.Error())
		}
		return v
	case 1:
		return c.value(s.Synonyms[0])
	}
	millis := c.familyMillis(s.Synonyms)
	if s.Name == "retention.ms" && millis < 0 {
		return int64(-1)
	}
	return millis
}

// effective gives the typed values of a topic's or group's settings. Overrides
// that cannot be read or have no row fall back to the default and are named in
// the error.
func (c *Config) effective(scope Scope, overrides map[string]string) (map[string]value, error) {
	values := map[string]value{}
	var wrong []error
	for _, s := range rowsOf(scope) {
		values[s.Name] = c.topicDefault(s)
		text, ok := overrides[s.Name]
		if !ok {
			continue
		}
		v, err := s.parse(text)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		values[s.Name] = v
	}
	return values, errors.Join(wrong...)
}

// TopicView is the effective settings of one topic, typed. Sizes are in bytes,
// times in milliseconds; -1 means no bound where Kafka says so.
type TopicView struct {
	SegmentBytes        int64
	SegmentMillis       int64
	SegmentJitterMillis int64
	SegmentIndexBytes   int64
	IndexIntervalBytes  int64
	Preallocate         bool

	RetentionBytes        int64 // -1: no bound
	RetentionMillis       int64 // -1: no bound
	LocalRetentionBytes   int64 // -2: RetentionBytes
	LocalRetentionMillis  int64 // -2: RetentionMillis
	FileDeleteDelayMillis int64
	Delete, Compact       bool // cleanup.policy

	DeleteRetentionMillis  int64
	MinCompactionLagMillis int64
	MaxCompactionLagMillis int64
	MinCleanableDirtyRatio float64

	FlushMessages int64
	FlushMillis   int64

	MaxMessageBytes          int64
	CompressionType          string // producer, uncompressed, gzip, snappy, lz4, zstd
	GzipLevel                int
	LZ4Level                 int
	ZstdLevel                int
	LogAppendTime            bool // message.timestamp.type
	TimestampBeforeMaxMillis int64
	TimestampAfterMaxMillis  int64

	MinInsyncReplicas           int
	UncleanLeaderElectionEnable bool
	RemoteStorageEnable         bool
}

// Topic gives the effective settings of a topic with these overrides. The view
// is good in any case; the error names overrides that could not be read, for
// which the default stands.
func (c *Config) Topic(overrides map[string]string) (TopicView, error) {
	v, err := c.effective(Topic, overrides)
	policy := v["cleanup.policy"].([]string)
	t := TopicView{
		SegmentBytes:        v["segment.bytes"].(int64),
		SegmentMillis:       v["segment.ms"].(int64),
		SegmentJitterMillis: v["segment.jitter.ms"].(int64),
		SegmentIndexBytes:   v["segment.index.bytes"].(int64),
		IndexIntervalBytes:  v["index.interval.bytes"].(int64),
		Preallocate:         v["preallocate"].(bool),

		RetentionBytes:        v["retention.bytes"].(int64),
		RetentionMillis:       v["retention.ms"].(int64),
		LocalRetentionBytes:   v["local.retention.bytes"].(int64),
		LocalRetentionMillis:  v["local.retention.ms"].(int64),
		FileDeleteDelayMillis: v["file.delete.delay.ms"].(int64),
		Delete:                slices.Contains(policy, "delete"),
		Compact:               slices.Contains(policy, "compact"),

		DeleteRetentionMillis:  v["delete.retention.ms"].(int64),
		MinCompactionLagMillis: v["min.compaction.lag.ms"].(int64),
		MaxCompactionLagMillis: v["max.compaction.lag.ms"].(int64),
		MinCleanableDirtyRatio: v["min.cleanable.dirty.ratio"].(float64),

		FlushMessages: v["flush.messages"].(int64),
		FlushMillis:   v["flush.ms"].(int64),

		MaxMessageBytes:          v["max.message.bytes"].(int64),
		CompressionType:          v["compression.type"].(string),
		GzipLevel:                int(v["compression.gzip.level"].(int64)),
		LZ4Level:                 int(v["compression.lz4.level"].(int64)),
		ZstdLevel:                int(v["compression.zstd.level"].(int64)),
		LogAppendTime:            v["message.timestamp.type"] == "LogAppendTime",
		TimestampBeforeMaxMillis: v["message.timestamp.before.max.ms"].(int64),
		TimestampAfterMaxMillis:  v["message.timestamp.after.max.ms"].(int64),

		MinInsyncReplicas:           int(v["min.insync.replicas"].(int64)),
		UncleanLeaderElectionEnable: v["unclean.leader.election.enable"].(bool),
		RemoteStorageEnable:         v["remote.storage.enable"].(bool),
	}
	if n, ok := v["internal.segment.bytes"].(int64); ok {
		t.SegmentBytes = n
	}
	return t, err
}

// ProtocolView is what groups of every protocol have in common.
type ProtocolView struct {
	SessionTimeoutMillis     int64
	HeartbeatIntervalMillis  int64
	AssignmentIntervalMillis int64
}

// GroupView is the effective settings of one group, typed and held within the
// broker's bounds (GroupConfig.evaluate).
type GroupView struct {
	Consumer, Share, Streams ProtocolView

	ShareRecordLockMillis        int64
	ShareDeliveryCountLimit      int
	SharePartitionMaxRecordLocks int
	ShareAutoOffsetReset         string // latest, earliest, by_duration:...
	ShareReadCommitted           bool
	ShareRenewAcknowledge        bool

	StreamsStandbyReplicas             int
	StreamsInitialRebalanceDelayMillis int64
}

// Group gives the effective settings of a group with these overrides, with the
// same promise as Topic.
func (c *Config) Group(overrides map[string]string) (GroupView, error) {
	v, err := c.effective(Group, overrides)
	in := func(name string) int64 { return c.clamp(name, v[name].(int64)) }
	protocol := func(name string) ProtocolView {
		return ProtocolView{in(name + ".session.timeout.ms"), in(name + ".heartbeat.interval.ms"), in(name + ".assignment.interval.ms")}
	}
	return GroupView{
		Consumer: protocol("consumer"), Share: protocol("share"), Streams: protocol("streams"),

		ShareRecordLockMillis:        in("share.record.lock.duration.ms"),
		ShareDeliveryCountLimit:      int(in("share.delivery.count.limit")),
		SharePartitionMaxRecordLocks: int(in("share.partition.max.record.locks")),
		ShareAutoOffsetReset:         v["share.auto.offset.reset"].(string),
		ShareReadCommitted:           v["share.isolation.level"] == "read_committed",
		ShareRenewAcknowledge:        v["share.renew.acknowledge.enable"].(bool),

		StreamsStandbyReplicas:             int(in("streams.num.standby.replicas")),
		StreamsInitialRebalanceDelayMillis: v["streams.initial.rebalance.delay.ms"].(int64),
	}, err
}

// bounds names the broker settings that bound a group setting: group.<protocol>.min.<rest>
// and group.<protocol>.max.<rest>, where the table has them.
func bounds(name string) (low, high string) {
	protocol, rest, _ := strings.Cut(name, ".")
	low, high = "group."+protocol+".min."+rest, "group."+protocol+".max."+rest
	if name == "streams.num.standby.replicas" {
		high = "group.streams.max.standby.replicas"
	}
	if _, ok := Lookup(Broker, low); !ok {
		low = ""
	}
	if _, ok := Lookup(Broker, high); !ok {
		high = ""
	}
	return low, high
}

func (c *Config) clamp(name string, n int64) int64 {
	low, high := bounds(name)
	if low != "" {
		n = max(n, c.Int(low))
	}
	if high != "" {
		n = min(n, c.Int(high))
	}
	return n
}
