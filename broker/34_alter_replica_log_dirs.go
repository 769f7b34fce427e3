package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/protocol"
)

// alterReplicaLogDirs answers AlterReplicaLogDirs (34), versions 1-2 (KIP-113): a
// partition's log moves to another data directory while it is in use. The answer
// comes when the copying has begun; DescribeLogDirs shows how far it is.
//
// The directory is named as DescribeLogDirs does: LOG_DIR_NOT_FOUND for another
// name, KAFKA_STORAGE_ERROR while it, the partition's own or, for a new move, any
// directory is out of service, INVALID_REPLICA_ASSIGNMENT for one that is cordoned
// (KIP-1066), INVALID_TOPIC_EXCEPTION where the topic's name is too long for the name of a
// copy. A partition that is asked to be where it is stays there; a move that is under way
// is called off then. Where a partition does not exist, UNKNOWN_TOPIC_OR_PARTITION, the
// directory is remembered until it does. A partition that is named twice goes where it was
// named last. ACL: ALTER on the cluster (31, for each partition).
func (b *Broker) alterReplicaLogDirs(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.AlterReplicaLogDirsRequest)
	allowed := b.mayCluster(c, OpAlter)
	return protocol.Later(func(context.Context) protocol.Response {
		resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
		resp.Version = c.Version
		type asked struct {
			topic     string
			partition int32
		}
		to, order := map[asked]string{}, []asked{}
		for _, d := range req.Dirs {
			for _, t := range d.Topics {
				for _, p := range t.Partitions {
					a := asked{t.Topic, p}
					if _, twice := to[a]; !twice {
						order = append(order, a)
					}
					to[a] = d.Dir
				}
			}
		}
		for _, a := range order {
			i := slices.IndexFunc(resp.Topics, func(t kmsg.AlterReplicaLogDirsResponseTopic) bool { return t.Topic == a.topic })
			if i < 0 {
				i = len(resp.Topics)
				rt := kmsg.NewAlterReplicaLogDirsResponseTopic()
				rt.Topic = a.topic
				resp.Topics = append(resp.Topics, rt)
			}
			rp := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
			rp.Partition, rp.ErrorCode = a.partition, kerr.ClusterAuthorizationFailed.Code
			if allowed {
				rp.ErrorCode = codeOf(b.alterLogDir(a.topic, a.partition, to[a]))
			}
			resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, rp)
		}
		return resp
	})
}

// maxFutureName bounds the name of a copy's directory: topic, partition, a UUID
// without dashes and "-future".
const (
	maxFutureName  = 255
	futureNameTail = len(".") + 32 + len("-future")
)

// alterLogDir moves one partition (ReplicaManager.alterReplicaLogDirs).
func (b *Broker) alterLogDir(topic string, index int32, name string) error {
	if len(topic)+len("-")+len(strconv.Itoa(int(index)))+futureNameTail > maxFutureName {
		return kerr.InvalidTopicException
	}
	to, err := b.dirs.Named(name)
	if err != nil {
		return err
	}
	if slices.Contains(b.cordoned(), name) {
		return kerr.InvalidReplicaAssignment
	}
	t := b.image().Topic(topic)
	if t == nil || index < 0 || int(index) >= len(t.Partitions) {
		b.dirs.Wish(topic, index, to)
		return kerr.UnknownTopicOrPartition
	}
	l, err := b.parts.get(t, index)
	if errors.Is(err, log.ErrClosed) || errors.Is(err, kerr.NotLeaderForPartition) {
		return kerr.ReplicaNotAvailable
	}
	if err != nil {
		b.logStorage("open for a move to "+name, err)
		return err
	}
	if err := b.dirs.Move(l, to); err != nil {
		b.logStorage("move to "+name, err)
		return err
	}
	return nil
}
