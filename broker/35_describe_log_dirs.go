package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// describeLogDirs answers DescribeLogDirs (35), versions 1-5: each data directory, the
// space of its file system and the size of each partition's log in it. A log that is on
// its way to another directory is there, too, with IsFuture and the records that it lacks.
//
// No topics (null) mean all of them; partitions that do not exist are left out.
// v3 has an error of its own for the whole answer, v4 total and usable bytes,
// v5 whether the directory is cordoned. A
// directory out of service answers KAFKA_STORAGE_ERROR. ACL: DESCRIBE on the cluster (31).
func (b *Broker) describeLogDirs(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DescribeLogDirsRequest)
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	resp.Version = c.Version
	if !b.mayCluster(c, OpDescribe) {
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return protocol.Now(resp)
	}
	return protocol.Later(func(context.Context) protocol.Response {
		im, sizes := b.image(), logSizes{}
		if req.Topics == nil {
			for _, t := range im.Topics() {
				b.addLogSizes(sizes, t, allPartitions(t))
			}
		}
		for _, t := range req.Topics {
			if found := im.Topic(t.Topic); found != nil {
				named := slices.Clone(t.Partitions)
				slices.Sort(named)
				b.addLogSizes(sizes, found, slices.Compact(named))
			}
		}
		for _, r := range b.partitionDirs() {
			resp.Dirs = append(resp.Dirs, b.describeLogDir(r, sizes[r]))
		}
		return resp
	})
}

// logSizes are the topics to show of each directory.
type logSizes map[*log.Directory][]kmsg.DescribeLogDirsResponseDirTopic

func (b *Broker) describeLogDir(r *log.Directory, topics []kmsg.DescribeLogDirsResponseDirTopic) kmsg.DescribeLogDirsResponseDir {
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = r.Name()
	err := r.Err()
	if err == nil {
		usage, failed := b.fs.Usage(r.Name())
		dir.TotalBytes, dir.UsableBytes, err = usage.Total, usage.Usable, failed
	}
	if err != nil {
		b.logStorage("describe data directory "+r.Name(), err)
		dir.ErrorCode, dir.TotalBytes, dir.UsableBytes = kerr.KafkaStorageError.Code, -1, -1
		return dir
	}
	dir.Topics, dir.IsCordoned = topics, slices.Contains(b.cordoned(), r.Name())
	return dir
}

func allPartitions(t *metadata.Topic) []int32 {
	all := make([]int32, len(t.Partitions))
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// addLogSizes adds those of the partitions that exist.
func (b *Broker) addLogSizes(sizes logSizes, t *metadata.Topic, only []int32) {
	for _, index := range only {
		if index < 0 || int(index) >= len(t.Partitions) {
			continue
		}
		l, err := b.parts.get(t, index)
		if err != nil {
			b.logStorage("open to tell its size", err)
			continue
		}
		dp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		dp.Partition, dp.Size = index, l.Size()
		sizes.add(b.dirs.Of(l), t.Name, dp)
		if to, bytes, lag := b.dirs.Moving(l); to != nil {
			dp.Size, dp.OffsetLag, dp.IsFuture = bytes, lag, true
			sizes.add(to, t.Name, dp)
		}
	}
}

// add puts a partition to its topic, which comes last if it is there.
func (s logSizes) add(r *log.Directory, topic string, dp kmsg.DescribeLogDirsResponseDirTopicPartition) {
	topics := s[r]
	if n := len(topics); n == 0 || topics[n-1].Topic != topic {
		dt := kmsg.NewDescribeLogDirsResponseDirTopic()
		dt.Topic = topic
		topics = append(topics, dt)
	}
	last := &topics[len(topics)-1]
	last.Partitions = append(last.Partitions, dp)
	s[r] = topics
}
