package null

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// served are the APIs with their highest versions. Produce and Fetch end before flexible versions and topic ids.
func served() []kmsg.ApiVersionsResponseApiKey {
	var all []kmsg.ApiVersionsResponseApiKey
	for _, k := range []struct{ key, low, high int16 }{{0, 3, 8}, {1, 4, 11}, {2, 1, 7}, {3, 1, 12}, {18, 0, 3}, {19, 2, 7}, {20, 1, 3}, {22, 0, 4}} {
		a := kmsg.NewApiVersionsResponseApiKey()
		a.ApiKey, a.MinVersion, a.MaxVersion = k.key, k.low, k.high
		all = append(all, a)
	}
	return all
}

// other answers what is not hot.
func (s *Server) other(req kmsg.Request) (kmsg.Response, error) {
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		r := resp.(*kmsg.ApiVersionsResponse)
		if r.ApiKeys = served(); req.Version > 3 {
			r.Version, r.ErrorCode = 0, 35 // UNSUPPORTED_VERSION
		}
	case *kmsg.MetadataRequest:
		return resp, s.metadata(req, resp.(*kmsg.MetadataResponse))
	case *kmsg.CreateTopicsRequest:
		r := resp.(*kmsg.CreateTopicsResponse)
		for i := range req.Topics {
			t, err := s.topic(req.Topics[i].Topic, max(int(req.Topics[i].NumPartitions), 1))
			if err != nil {
				return nil, err
			}
			rt := kmsg.NewCreateTopicsResponseTopic()
			rt.Topic, rt.TopicID, rt.NumPartitions, rt.ReplicationFactor = t.name, t.id, int32(len(t.partitions)), 1
			r.Topics = append(r.Topics, rt)
		}
	case *kmsg.DeleteTopicsRequest:
		for _, name := range req.TopicNames {
			s.remove(name)
			rt := kmsg.NewDeleteTopicsResponseTopic()
			rt.Topic = &name
			resp.(*kmsg.DeleteTopicsResponse).Topics = append(resp.(*kmsg.DeleteTopicsResponse).Topics, rt)
		}
	case *kmsg.InitProducerIDRequest:
		s.mu.Lock()
		s.nextID++
		resp.(*kmsg.InitProducerIDResponse).ProducerID = s.nextID
		s.mu.Unlock()
	case *kmsg.ListOffsetsRequest:
		return resp, s.offsets(req, resp.(*kmsg.ListOffsetsResponse))
	default:
		return nil, fmt.Errorf("api %d is not served", req.Key())
	}
	return resp, nil
}

func (s *Server) metadata(req *kmsg.MetadataRequest, r *kmsg.MetadataResponse) error {
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID, b.Host, b.Port = 1, s.addr.IP.String(), int32(s.addr.Port)
	r.Brokers, r.ControllerID = append(r.Brokers, b), 1
	cluster := "null"
	r.ClusterID = &cluster
	for i := range req.Topics {
		if req.Topics[i].Topic == nil {
			return fmt.Errorf("topics are found by name only")
		}
		t, err := s.topic(*req.Topics[i].Topic, s.Partitions)
		if err != nil {
			return err
		}
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic, rt.TopicID = &t.name, t.id
		for p := range t.partitions {
			rp := kmsg.NewMetadataResponseTopicPartition()
			rp.Partition, rp.Leader, rp.Replicas, rp.ISR = int32(p), 1, []int32{1}, []int32{1}
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return nil
}

func (s *Server) offsets(req *kmsg.ListOffsetsRequest, r *kmsg.ListOffsetsResponse) error {
	for i := range req.Topics {
		t, err := s.topic(req.Topics[i].Topic, 0)
		if err != nil {
			return err
		}
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = req.Topics[i].Topic
		for _, p := range req.Topics[i].Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition = p.Partition
			switch {
			case t == nil || p.Partition < 0 || int(p.Partition) >= len(t.partitions):
				rp.ErrorCode = unknownTopic
			case p.Timestamp == -2:
				rp.Offset = 0
			default:
				have := t.partitions[p.Partition]
				have.mu.Lock()
				rp.Offset = have.end.offset
				have.mu.Unlock()
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return nil
}
