package raw

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Ask sends one request of a version before flexible ones and answers what came back.
func Ask(ctx context.Context, addr string, req kmsg.Request) (kmsg.Response, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := nc.Write(request(req, req.Key(), req.GetVersion())); err != nil {
		return nil, err
	}
	b, err := readFrame(bufio.NewReader(nc), nil)
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(b[4:]); err != nil {
		return nil, err
	}
	if r, ok := resp.(*kmsg.CreateTopicsResponse); ok {
		for _, t := range r.Topics {
			if t.ErrorCode != 0 {
				return nil, fmt.Errorf("create topic %s: %w", t.Topic, kerr.ErrorForCode(t.ErrorCode))
			}
		}
	}
	return resp, nil
}

// CreateTopic asks for a topic.
func CreateTopic(name string, partitions int) kmsg.Request {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 3, 30_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, int32(partitions), 1
	req.Topics = append(req.Topics, t)
	return req
}

// Offsets asks for the ends of some partitions.
func Offsets(topic string, partitions int) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 1, -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for i := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = int32(i), -1
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// DeleteTopic asks to delete a topic.
func DeleteTopic(name string) kmsg.Request {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis, req.TopicNames = 3, 30_000, []string{name}
	return req
}
