package log

import (
	"math"

	"github.com/rotpeter/rotpeter/log/batch"
)

// Config is the settings of a topic that its logs obey, under Kafka's names.
// Times are milliseconds as Kafka has them: their largest values, which mean
// "never", do not fit a time.Duration. DefaultConfig has Kafka's defaults.
type Config struct {
	SegmentBytes        int   // segment.bytes
	SegmentMillis       int64 // segment.ms
	SegmentJitterMillis int64 // segment.jitter.ms
	SegmentIndexBytes   int   // segment.index.bytes
	IndexIntervalBytes  int   // index.interval.bytes
	MaxMessageBytes     int   // max.message.bytes: a whole batch, compressed

	Delete          bool  // cleanup.policy contains delete
	Compact         bool  // cleanup.policy contains compact
	RetentionMillis int64 // retention.ms, -1: for ever
	RetentionBytes  int64 // retention.bytes, -1: unlimited

	KeepCompression bool        // compression.type=producer
	Compression     batch.Codec // otherwise
	// CompressionLevel is compression.gzip.level, .lz4.level or .zstd.level,
	// whichever belongs to Compression; 0 means the codec's default.
	CompressionLevel int

	LogAppendTime            bool  // message.timestamp.type=LogAppendTime
	TimestampBeforeMaxMillis int64 // message.timestamp.before.max.ms
	TimestampAfterMaxMillis  int64 // message.timestamp.after.max.ms

	FlushMessages          int64   // flush.messages: an append that makes it so many waits for the disk
	FlushMillis            int64   // flush.ms
	FileDeleteDelayMillis  int64   // file.delete.delay.ms
	MaxCompactionLagMillis int64   // max.compaction.lag.ms: also bounds the age of a segment of a compacted topic
	MinCompactionLagMillis int64   // min.compaction.lag.ms
	DeleteRetentionMillis  int64   // delete.retention.ms: how long tombstones and markers are kept
	MinCleanableRatio      float64 // min.cleanable.dirty.ratio
	// Irreplaceable: a directory that is not this topic's is an error, and not set
	// aside to begin anew.
	Irreplaceable     bool
	MinInSyncReplicas int // min.insync.replicas: not used here, kept for the broker
}

// DefaultConfig returns Kafka's defaults.
func DefaultConfig() Config {
	return Config{
		SegmentBytes: 1 << 30, SegmentMillis: 7 * 24 * 3600_000, SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096,
		MaxMessageBytes: 1<<20 + batch.Overhead,
		Delete:          true, RetentionMillis: 7 * 24 * 3600_000, RetentionBytes: -1,
		KeepCompression:          true,
		TimestampBeforeMaxMillis: math.MaxInt64, TimestampAfterMaxMillis: 3600_000,
		FlushMessages: math.MaxInt64, FlushMillis: math.MaxInt64, FileDeleteDelayMillis: 60_000,
		MaxCompactionLagMillis: math.MaxInt64, DeleteRetentionMillis: 24 * 3600_000, MinCleanableRatio: 0.5, MinInSyncReplicas: 1,
	}
}

// segmentAgeMillis is when a segment is rolled: a compacted topic's segments must
// leave the active place before they can be compacted.
func (c *Config) segmentAgeMillis() int64 {
	if c.Compact {
		return min(c.SegmentMillis, c.MaxCompactionLagMillis)
	}
	return c.SegmentMillis
}

// maxIndexEntries and maxTimeIndexEntries are how many entries fill an index of
// segment.index.bytes. Both keep places for what is entered when the segment ends.
func (c *Config) maxIndexEntries() int {
	n := c.SegmentIndexBytes / indexEntryBytes
	return max(n-completeEntries, min(n, 1))
}

func (c *Config) maxTimeIndexEntries() int { return c.SegmentIndexBytes/timeEntryBytes - 1 }
