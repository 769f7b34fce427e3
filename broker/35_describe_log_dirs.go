package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// describeLogDirs answers DescribeLogDirs (35), versions 1-4: the data directory, the
// space of its file system and the size of each partition's log in it.
//
// No topics (null) mean all of them; partitions that do not exist are left out.
// v3 has an error of its own for the whole answer, v4 total and usable bytes. A
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
		dir := kmsg.NewDescribeLogDirsResponseDir()
		dir.Dir = b.dir
		usage, err := b.fs.Usage(b.dir)
		if err == nil {
			err = b.Err()
		}
		if err != nil {
			b.logStorage("describe the data directory", err)
			dir.ErrorCode, dir.TotalBytes, dir.UsableBytes = kerr.KafkaStorageError.Code, -1, -1
			resp.Dirs = append(resp.Dirs, dir)
			return resp
		}
		dir.TotalBytes, dir.UsableBytes = usage.Total, usage.Usable
		im := b.image()
		if req.Topics == nil {
			for _, t := range im.Topics() {
				b.addLogSizes(&dir, t, allPartitions(t))
			}
		}
		for _, t := range req.Topics {
			if found := im.Topic(t.Topic); found != nil {
				named := slices.Clone(t.Partitions)
				slices.Sort(named)
				b.addLogSizes(&dir, found, slices.Compact(named))
			}
		}
		resp.Dirs = append(resp.Dirs, dir)
		return resp
	})
}

func allPartitions(t *metadata.Topic) []int32 {
	all := make([]int32, len(t.Partitions))
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// addLogSizes adds those of the partitions that exist.
func (b *Broker) addLogSizes(dir *kmsg.DescribeLogDirsResponseDir, t *metadata.Topic, only []int32) {
	dt := kmsg.NewDescribeLogDirsResponseDirTopic()
	dt.Topic = t.Name
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
		dt.Partitions = append(dt.Partitions, dp)
	}
	if len(dt.Partitions) > 0 {
		dir.Topics = append(dir.Topics, dt)
	}
}
