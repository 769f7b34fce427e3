package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/protocol"
)

// api is one line of the API table: what is served, and by which handler. The
// first flexible version comes from kmsg.
type api struct {
	key      int16
	name     string // Kafka's, as in its metrics
	min, max int16
	begin    func(context.Context, *protocol.Call) protocol.Answer
}

// apis is the one table of APIs. ApiVersions, the metrics' labels, docs/APIS.md
// and the version tests are made from it. The versions are those that Apache
// Kafka 4.3.1 serves on a broker listener.
func (b *Broker) apis() []api {
	return []api{
		{0, "Produce", 3, 13, b.produce},
		{1, "Fetch", 4, 18, b.fetch},
		{2, "ListOffsets", 1, 11, b.listOffsets},
		{3, "Metadata", 0, 13, b.metadataAPI},
		{8, "OffsetCommit", 2, 10, b.offsetCommit},
		{9, "OffsetFetch", 1, 10, b.offsetFetch},
		{10, "FindCoordinator", 0, 6, b.findCoordinator},
		{11, "JoinGroup", 0, 9, b.joinGroup},
		{12, "Heartbeat", 0, 4, b.heartbeat},
		{13, "LeaveGroup", 0, 5, b.leaveGroup},
		{14, "SyncGroup", 0, 5, b.syncGroup},
		{15, "DescribeGroups", 0, 6, b.describeGroups},
		{16, "ListGroups", 0, 5, b.listGroups},
		{18, "ApiVersions", 0, 4, b.apiVersions()},
		{19, "CreateTopics", 2, 7, b.createTopics},
		{20, "DeleteTopics", 1, 6, b.deleteTopics},
		{21, "DeleteRecords", 0, 2, b.deleteRecords},
		{22, "InitProducerId", 0, 5, b.initProducerID},
		{23, "OffsetForLeaderEpoch", 2, 4, b.offsetForLeaderEpoch},
		{24, "AddPartitionsToTxn", 0, 5, b.addPartitionsToTxn},
		{25, "AddOffsetsToTxn", 0, 4, b.addOffsetsToTxn},
		{26, "EndTxn", 0, 5, b.endTxn},
		{27, "WriteTxnMarkers", 1, 2, b.writeTxnMarkers},
		{28, "TxnOffsetCommit", 0, 5, b.txnOffsetCommit},
		{32, "DescribeConfigs", 1, 4, b.describeConfigs},
		{33, "AlterConfigs", 0, 2, b.alterConfigs},
		{34, "AlterReplicaLogDirs", 1, 2, b.alterReplicaLogDirs},
		{35, "DescribeLogDirs", 1, 5, b.describeLogDirs},
		{37, "CreatePartitions", 0, 3, b.createPartitions},
		{42, "DeleteGroups", 0, 2, b.deleteGroups},
		{44, "IncrementalAlterConfigs", 0, 1, b.incrementalAlterConfigs},
		{47, "OffsetDelete", 0, 0, b.offsetDelete},
		{57, "UpdateFeatures", 0, 2, b.updateFeatures},
		{60, "DescribeCluster", 0, 2, b.describeCluster},
		{61, "DescribeProducers", 0, 0, b.describeProducers},
		{65, "DescribeTransactions", 0, 0, b.describeTransactions},
		{66, "ListTransactions", 0, 2, b.listTransactions},
		{68, "ConsumerGroupHeartbeat", 0, 1, b.consumerGroupHeartbeat},
		{69, "ConsumerGroupDescribe", 0, 1, b.consumerGroupDescribe},
		{74, "ListConfigResources", 0, 1, b.listConfigResources},
		{75, "DescribeTopicPartitions", 0, 0, b.describeTopicPartitions},
	}
}

const (
	keyProduce     = 0
	keyFetch       = 1
	keyJoinGroup   = 11
	keySyncGroup   = 14
	keyApiVersions = 18
)

// makeRows turns the table into the protocol's rows.
func (b *Broker) makeRows() []protocol.Row {
	var rows []protocol.Row
	for _, a := range b.apis() {
		r := protocol.Row{Key: a.key, Min: a.min, Max: a.max, AdvertisedMin: a.min, FlexibleFrom: flexibleFrom(a.key, a.max), Begin: a.begin}
		if a.key != keyProduce && a.key != keyFetch {
			r.Begin = b.counted(a.key, a.begin)
		}
		switch a.key {
		case keyProduce:
			// librdkafka up to 2.x gives up message format v2 when it does not see
			// version 0 (KAFKA-18659); those below 3 are refused all the same.
			r.AdvertisedMin, r.Pipelined, r.Raw = 0, true, true
		case keyFetch:
			r.Raw = true
		case keyJoinGroup, keySyncGroup:
			r.Waits = true
		case keyApiVersions:
			r.Open = true
		}
		rows = append(rows, r)
	}
	return rows
}

// flexibleFrom finds the first version with compact types and tags (KIP-482), -1 if none.
func flexibleFrom(key, last int16) int16 {
	req := kmsg.RequestForKey(key)
	for v := int16(0); v <= last; v++ {
		req.SetVersion(v)
		if req.IsFlexible() {
			return v
		}
	}
	return -1
}
