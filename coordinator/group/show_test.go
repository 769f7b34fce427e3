package group

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
)

// show writes words with single blanks between; empty ones are left out.
func show(words ...string) string {
	var kept []string
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

func showError(code int16) string {
	if code == 0 {
		return ""
	}
	return fmt.Sprintf("error=%d/%s", code, kerr.TypedErrorForCode(code).Message)
}

// opt shows a string that may be null.
func opt(key string, s *string) string {
	if s == nil {
		return ""
	}
	return key + "=" + *s
}

// short shows long texts as their length.
func short(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("(%d bytes)", len(s))
	}
	return s
}

// text shows bytes, and subscriptions as their length.
func text(b []byte) string {
	if len(b) > 0 && b[0] == 0 {
		return fmt.Sprintf("(%d bytes)", len(b))
	}
	return short(string(b))
}

// showAssigned decodes an assignment of the consumer protocol; others are shown as text is.
func showAssigned(b []byte) string {
	m := kmsg.NewConsumerMemberAssignment()
	if len(b) < 10 || b[0] != 0 || m.ReadFrom(b) != nil {
		return text(b)
	}
	words := []string{fmt.Sprintf("v%d", m.Version)}
	for _, t := range m.Topics {
		words = append(words, t.Topic+"/"+strings.ReplaceAll(strings.Trim(fmt.Sprint(t.Partitions), "[]"), " ", "+"))
	}
	if len(m.UserData) > 0 {
		words = append(words, "userdata="+string(m.UserData))
	}
	return strings.Join(words, ",")
}

func showRecord(r coordinator.Record) string {
	if r.Control != coordinator.None {
		return fmt.Sprintf("marker %s producer=%d epoch=%d coordinator=%d", r.Control, r.ProducerID, r.ProducerEpoch, r.CoordinatorEpoch)
	}
	if keyType(r.Key) == groupKeyType {
		id, _ := readGroupKey(r.Key)
		if r.Value == nil {
			return fmt.Sprintf("group %s gone", id)
		}
		m, ok := readGroup(r.Value)
		if !ok {
			return "group that cannot be read"
		}
		return fmt.Sprintf("group %s %s", id, showMetadata(m))
	}
	if isConsumerRecord(keyType(r.Key)) {
		return showConsumerRecord(r)
	}
	if _, foreign := foreignRecords[keyType(r.Key)]; foreign {
		return fmt.Sprintf("type %d %q = %x", keyType(r.Key), r.Key[4:], r.Value)
	}
	id, tp, _ := readOffsetKey(r.Key)
	words := []string{"offset", id, fmt.Sprintf("%s/%d", tp.topic, tp.partition)}
	if r.Transactional {
		words = append(words, fmt.Sprintf("producer=%d epoch=%d", r.ProducerID, r.ProducerEpoch))
	}
	if r.Value == nil {
		return show(append(words, "gone")...)
	}
	o, ok := readOffset(r.Value)
	if !ok {
		return "offset that cannot be read"
	}
	return show(append(words, showOffset(o), fmt.Sprintf("v%d", keyType(r.Value)))...)
}

func showMetadata(m *groupMetadata) string {
	words := []string{
		"type=" + m.protocolType, fmt.Sprintf("generation=%d", m.generation), opt("protocol", m.protocol), "leader=" + m.leader,
	}
	for _, mm := range m.members {
		words = append(words, show("["+mm.id, opt("instance", mm.instanceID), mm.clientID+mm.clientHost,
			fmt.Sprintf("session=%d rebalance=%d", mm.sessionMillis, mm.rebalanceMillis),
			fmt.Sprintf("%s:%s]", text(mm.subscription), showAssigned(mm.assignment))))
	}
	return show(words...)
}

func showOffset(o offset) string {
	words := []string{"= " + strconv.FormatInt(o.offset, 10)}
	if o.leaderEpoch != -1 {
		words = append(words, fmt.Sprintf("leader-epoch=%d", o.leaderEpoch))
	}
	if o.metadata != "" {
		words = append(words, "metadata="+short(o.metadata))
	}
	if o.expires != noTime {
		words = append(words, fmt.Sprintf("for=%dms", o.expires-o.committed))
	}
	if o.topicID != [16]byte{} {
		words = append(words, "id="+showTopicID(o.topicID))
	}
	return show(words...)
}

func showReply(body any) string {
	switch r := body.(type) {
	case *kmsg.JoinGroupResponse:
		return showJoin(r)
	case *kmsg.SyncGroupResponse:
		return show("SyncGroup", showError(r.ErrorCode), opt("type", r.ProtocolType), opt("protocol", r.Protocol), "assignment="+showAssigned(r.MemberAssignment))
	case *kmsg.HeartbeatResponse:
		return show("Heartbeat", showError(r.ErrorCode))
	case *kmsg.LeaveGroupResponse:
		words := []string{"LeaveGroup", showError(r.ErrorCode)}
		for _, m := range r.Members {
			words = append(words, show("["+m.MemberID, opt("instance", m.InstanceID), showError(m.ErrorCode))+"]")
		}
		return show(words...)
	case kmsg.DescribeGroupsResponseGroup:
		words := []string{"Describe", r.Group, r.State, "type=" + r.ProtocolType, "protocol=" + r.Protocol, showError(r.ErrorCode), opt("message", r.ErrorMessage)}
		for _, m := range r.Members {
			words = append(words, show("["+m.MemberID, opt("instance", m.InstanceID), m.ClientID+m.ClientHost, text(m.ProtocolMetadata)+":"+text(m.MemberAssignment)+"]"))
		}
		return show(words...)
	case []kmsg.ListGroupsResponseGroup:
		words := []string{"List"}
		for _, g := range r {
			words = append(words, fmt.Sprintf("[%s type=%s %s %s]", g.Group, g.ProtocolType, g.GroupState, g.GroupType))
		}
		return show(words...)
	case *kmsg.ConsumerGroupHeartbeatResponse:
		return showBeat(r)
	case kmsg.ConsumerGroupDescribeResponseGroup:
		return showConsumerGroup(r)
	case kmsg.DeleteGroupsResponseGroup:
		return show("Delete", r.Group, showError(r.ErrorCode))
	case int16:
		return show("EndTransaction", showError(r))
	case int:
		return fmt.Sprintf("TopicDeleted %d", r)
	case Counts:
		return fmt.Sprintf("Count %+v", r)
	}
	return showOffsetReply(body)
}

func showJoin(r *kmsg.JoinGroupResponse) string {
	words := []string{"JoinGroup", showError(r.ErrorCode), "member=" + r.MemberID}
	if r.Generation != -1 {
		words = append(words, fmt.Sprintf("generation=%d", r.Generation))
	}
	words = append(words, opt("type", r.ProtocolType), opt("protocol", r.Protocol))
	if r.LeaderID != "" {
		words = append(words, "leader="+r.LeaderID)
	}
	if r.SkipAssignment {
		words = append(words, "skip-assignment")
	}
	for _, m := range r.Members {
		words = append(words, show("["+m.MemberID, opt("instance", m.InstanceID), text(m.ProtocolMetadata)+"]"))
	}
	return show(words...)
}

func showOffsetReply(body any) string {
	var words []string
	switch r := body.(type) {
	case *kmsg.OffsetCommitResponse:
		words = append(words, "OffsetCommit")
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				words = append(words, show(fmt.Sprintf("[%s/%d", t.Topic, p.Partition), showError(p.ErrorCode))+"]")
			}
		}
	case *kmsg.TxnOffsetCommitResponse:
		if r == nil {
			return "late"
		}
		words = append(words, "TxnOffsetCommit")
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				words = append(words, show(fmt.Sprintf("[%s/%d", t.Topic, p.Partition), showError(p.ErrorCode))+"]")
			}
		}
	case *kmsg.OffsetDeleteResponse:
		words = append(words, "OffsetDelete", showError(r.ErrorCode))
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				words = append(words, show(fmt.Sprintf("[%s/%d", t.Topic, p.Partition), showError(p.ErrorCode))+"]")
			}
		}
	case kmsg.OffsetFetchResponseGroup:
		words = append(words, "OffsetFetch", r.Group, showError(r.ErrorCode))
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				epoch := ""
				if p.LeaderEpoch != -1 {
					epoch = fmt.Sprintf("leader-epoch=%d", p.LeaderEpoch)
				}
				metadata := *p.Metadata
				if metadata != "" {
					metadata = "metadata=" + metadata
				}
				words = append(words, show(fmt.Sprintf("[%s/%d = %d", t.Topic, p.Partition, p.Offset), epoch, metadata, showError(p.ErrorCode))+"]")
			}
		}
	default:
		return fmt.Sprintf("%T %v", body, body)
	}
	return show(words...)
}
