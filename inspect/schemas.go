package inspect

// recordType is a row of the table of an internal topic's records: the layouts of the key
// and of the value. The key begins with its number.
type recordType struct {
	number     int16
	key, value schema
}

// never is the flexible version of a schema that has none.
const never = -1

// Keys (the same fields for many types).
var (
	groupKeyFields  = []field{{name: "groupId", kind: tString}}
	memberKeyFields = []field{{name: "groupId", kind: tString}, {name: "memberId", kind: tString}}
	offsetKeyFields = []field{{name: "group", kind: tString}, {name: "topic", kind: tString}, {name: "partition", kind: tInt32}}
	shareKeyFields  = []field{{name: "groupId", kind: tString}, {name: "topicId", kind: tUUID}, {name: "partition", kind: tInt32}}
)

// Structures that several types have.
var (
	idPartitions = []field{{name: "topicId", kind: tUUID}, {name: "partitions", kind: tInt32s}}
	namedTopic   = []field{{name: "topicId", kind: tUUID}, {name: "topicName", kind: tString}, {name: "partitions", kind: tInt32s}}
	targetEpoch  = []field{{name: "assignmentEpoch", kind: tInt32}, {name: "assignmentTimestamp", kind: tInt64, tag: 1}}
	ownPartition = []field{{name: "topicId", kind: tUUID}, {name: "partitions", kind: tInt32s}, {name: "assignmentEpochs", kind: tInt32s, null: true, tag: 1}}
	targetTasks  = []field{{name: "subtopologyId", kind: tString}, {name: "partitions", kind: tInt32s}}
	taskIDs      = []field{{name: "subtopologyId", kind: tString}, {name: "partitions", kind: tInt32s}, {name: "assignmentEpochs", kind: tInt32s, null: true, tag: 1}}
	keyValue     = []field{{name: "key", kind: tString}, {name: "value", kind: tString}}
	stateBatches = []field{{name: "firstOffset", kind: tInt64}, {name: "lastOffset", kind: tInt64}, {name: "deliveryState", kind: tInt8}, {name: "deliveryCount", kind: tInt16}}
	streamsTopic = []field{{name: "name", kind: tString}, {name: "partitions", kind: tInt32}, {name: "replicationFactor", kind: tInt16}, {name: "topicConfigs", kind: tStructs, fields: keyValue}}
)

// transactionRecords are those of __transaction_state (TransactionLogKey and -Value).
var transactionRecords = []recordType{
	{0, schema{"TransactionLogKey", 0, never, []field{{name: "transactionalId", kind: tString}}},
		schema{"TransactionLogValue", 1, 1, []field{
			{name: "producerId", kind: tInt64}, {name: "previousProducerId", kind: tInt64, from: 1, tag: 1}, {name: "nextProducerId", kind: tInt64, from: 1, tag: 2},
			{name: "producerEpoch", kind: tInt16}, {name: "nextProducerEpoch", kind: tInt16, from: 1, tag: 4},
			{name: "transactionTimeoutMs", kind: tInt32}, {name: "transactionStatus", kind: tInt8},
			{name: "transactionPartitions", kind: tStructs, null: true, fields: []field{{name: "topic", kind: tString}, {name: "partitionIds", kind: tInt32s}}},
			{name: "transactionLastUpdateTimestampMs", kind: tInt64}, {name: "transactionStartTimestampMs", kind: tInt64},
			{name: "clientTransactionVersion", kind: tInt16, from: 1, tag: 3},
		}}},
}

// shareRecords are those of __share_group_state.
var shareRecords = []recordType{
	{0, schema{"ShareSnapshotKey", 0, never, shareKeyFields},
		schema{"ShareSnapshotValue", 0, 0, []field{
			{name: "snapshotEpoch", kind: tInt32}, {name: "stateEpoch", kind: tInt32}, {name: "leaderEpoch", kind: tInt32}, {name: "startOffset", kind: tInt64},
			{name: "deliveryCompleteCount", kind: tInt32, tag: 1}, {name: "createTimestamp", kind: tInt64}, {name: "writeTimestamp", kind: tInt64},
			{name: "stateBatches", kind: tStructs, fields: stateBatches},
		}}},
	{1, schema{"ShareUpdateKey", 0, never, shareKeyFields},
		schema{"ShareUpdateValue", 0, 0, []field{
			{name: "snapshotEpoch", kind: tInt32}, {name: "leaderEpoch", kind: tInt32}, {name: "startOffset", kind: tInt64},
			{name: "deliveryCompleteCount", kind: tInt32, tag: 1}, {name: "stateBatches", kind: tStructs, fields: stateBatches},
		}}},
}

// groupRecords are those of __consumer_offsets (CoordinatorRecordType).
var groupRecords = []recordType{
	{0, schema{"LegacyOffsetCommitKey", 0, never, offsetKeyFields},
		schema{"LegacyOffsetCommitValue", 4, 4, offsetFields}},
	{1, schema{"OffsetCommitKey", 0, never, offsetKeyFields},
		schema{"OffsetCommitValue", 4, 4, offsetFields}},
	{2, schema{"GroupMetadataKey", 0, never, []field{{name: "group", kind: tString}}},
		schema{"GroupMetadataValue", 4, 4, []field{
			{name: "protocolType", kind: tString}, {name: "generation", kind: tInt32}, {name: "protocol", kind: tString, null: true}, {name: "leader", kind: tString, null: true},
			{name: "currentStateTimestamp", kind: tInt64, from: 2}, {name: "members", kind: tStructs, fields: []field{
				{name: "memberId", kind: tString}, {name: "groupInstanceId", kind: tString, from: 3, null: true}, {name: "clientId", kind: tString}, {name: "clientHost", kind: tString},
				{name: "rebalanceTimeout", kind: tInt32, from: 1}, {name: "sessionTimeout", kind: tInt32}, {name: "subscription", kind: tBytes}, {name: "assignment", kind: tBytes},
			}},
		}}},
	{3, schema{"ConsumerGroupMetadataKey", 0, never, groupKeyFields},
		schema{"ConsumerGroupMetadataValue", 0, 0, []field{{name: "epoch", kind: tInt32}, {name: "metadataHash", kind: tInt64, tag: 1}}}},
	{4, schema{"ConsumerGroupPartitionMetadataKey", 0, never, groupKeyFields},
		schema{"ConsumerGroupPartitionMetadataValue", 0, 0, []field{{name: "topics", kind: tStructs, fields: []field{
			{name: "topicId", kind: tUUID}, {name: "topicName", kind: tString}, {name: "numPartitions", kind: tInt32},
			{name: "partitionMetadata", kind: tStructs, fields: []field{{name: "partition", kind: tInt32}, {name: "racks", kind: tStrings}}},
		}}}}},
	{5, schema{"ConsumerGroupMemberMetadataKey", 0, never, memberKeyFields},
		schema{"ConsumerGroupMemberMetadataValue", 0, 0, []field{
			{name: "instanceId", kind: tString, null: true}, {name: "rackId", kind: tString, null: true}, {name: "clientId", kind: tString}, {name: "clientHost", kind: tString},
			{name: "subscribedTopicNames", kind: tStrings}, {name: "subscribedTopicRegex", kind: tString, null: true}, {name: "rebalanceTimeoutMs", kind: tInt32},
			{name: "serverAssignor", kind: tString, null: true},
			{name: "classicMemberMetadata", kind: tStruct, null: true, tag: 1, fields: []field{
				{name: "sessionTimeoutMs", kind: tInt32}, {name: "supportedProtocols", kind: tStructs, fields: []field{{name: "name", kind: tString}, {name: "metadata", kind: tBytes}}},
			}},
		}}},
	{6, schema{"ConsumerGroupTargetAssignmentMetadataKey", 0, never, groupKeyFields},
		schema{"ConsumerGroupTargetAssignmentMetadataValue", 0, 0, targetEpoch}},
	{7, schema{"ConsumerGroupTargetAssignmentMemberKey", 0, never, memberKeyFields},
		schema{"ConsumerGroupTargetAssignmentMemberValue", 0, 0, []field{{name: "topicPartitions", kind: tStructs, fields: idPartitions}}}},
	{8, schema{"ConsumerGroupCurrentMemberAssignmentKey", 0, never, memberKeyFields},
		schema{"ConsumerGroupCurrentMemberAssignmentValue", 0, 0, []field{
			{name: "memberEpoch", kind: tInt32}, {name: "previousMemberEpoch", kind: tInt32}, {name: "state", kind: tInt8},
			{name: "assignedPartitions", kind: tStructs, fields: ownPartition}, {name: "partitionsPendingRevocation", kind: tStructs, fields: ownPartition},
		}}},
	{10, schema{"ShareGroupMemberMetadataKey", 0, never, memberKeyFields},
		schema{"ShareGroupMemberMetadataValue", 0, 0, []field{
			{name: "rackId", kind: tString, null: true}, {name: "clientId", kind: tString}, {name: "clientHost", kind: tString}, {name: "subscribedTopicNames", kind: tStrings},
		}}},
	{11, schema{"ShareGroupMetadataKey", 0, never, groupKeyFields},
		schema{"ShareGroupMetadataValue", 0, 0, []field{{name: "epoch", kind: tInt32}, {name: "metadataHash", kind: tInt64}}}},
	{12, schema{"ShareGroupTargetAssignmentMetadataKey", 0, never, groupKeyFields},
		schema{"ShareGroupTargetAssignmentMetadataValue", 0, 0, targetEpoch}},
	{13, schema{"ShareGroupTargetAssignmentMemberKey", 0, never, memberKeyFields},
		schema{"ShareGroupTargetAssignmentMemberValue", 0, 0, []field{{name: "topicPartitions", kind: tStructs, fields: idPartitions}}}},
	{14, schema{"ShareGroupCurrentMemberAssignmentKey", 0, never, memberKeyFields},
		schema{"ShareGroupCurrentMemberAssignmentValue", 0, 0, []field{
			{name: "memberEpoch", kind: tInt32}, {name: "previousMemberEpoch", kind: tInt32}, {name: "state", kind: tInt8}, {name: "assignedPartitions", kind: tStructs, fields: idPartitions},
		}}},
	{15, schema{"ShareGroupStatePartitionMetadataKey", 0, never, groupKeyFields},
		schema{"ShareGroupStatePartitionMetadataValue", 0, 0, []field{
			{name: "initializingTopics", kind: tStructs, fields: namedTopic}, {name: "initializedTopics", kind: tStructs, fields: namedTopic},
			{name: "deletingTopics", kind: tStructs, fields: []field{{name: "topicId", kind: tUUID}, {name: "topicName", kind: tString}}},
		}}},
	{16, schema{"ConsumerGroupRegularExpressionKey", 0, never, []field{{name: "groupId", kind: tString}, {name: "regularExpression", kind: tString}}},
		schema{"ConsumerGroupRegularExpressionValue", 0, 0, []field{{name: "topics", kind: tStrings}, {name: "version", kind: tInt64}, {name: "timestamp", kind: tInt64}}}},
	{17, schema{"StreamsGroupMetadataKey", 0, never, groupKeyFields},
		schema{"StreamsGroupMetadataValue", 0, 0, []field{
			{name: "epoch", kind: tInt32}, {name: "metadataHash", kind: tInt64}, {name: "validatedTopologyEpoch", kind: tInt32, tag: 1},
			{name: "lastAssignmentConfigs", kind: tStructs, null: true, tag: 2, fields: keyValue},
		}}},
	{19, schema{"StreamsGroupMemberMetadataKey", 0, never, memberKeyFields},
		schema{"StreamsGroupMemberMetadataValue", 0, 0, []field{
			{name: "instanceId", kind: tString, null: true}, {name: "rackId", kind: tString, null: true}, {name: "clientId", kind: tString}, {name: "clientHost", kind: tString},
			{name: "rebalanceTimeoutMs", kind: tInt32}, {name: "topologyEpoch", kind: tInt32}, {name: "processId", kind: tString},
			{name: "userEndpoint", kind: tStruct, null: true, fields: []field{{name: "host", kind: tString}, {name: "port", kind: tUint16}}},
			{name: "clientTags", kind: tStructs, fields: keyValue},
		}}},
	{20, schema{"StreamsGroupTargetAssignmentMetadataKey", 0, never, groupKeyFields},
		schema{"StreamsGroupTargetAssignmentMetadataValue", 0, 0, targetEpoch}},
	{21, schema{"StreamsGroupTargetAssignmentMemberKey", 0, never, memberKeyFields},
		schema{"StreamsGroupTargetAssignmentMemberValue", 0, 0, []field{
			{name: "activeTasks", kind: tStructs, fields: targetTasks}, {name: "standbyTasks", kind: tStructs, fields: targetTasks}, {name: "warmupTasks", kind: tStructs, fields: targetTasks},
		}}},
	{22, schema{"StreamsGroupCurrentMemberAssignmentKey", 0, never, memberKeyFields},
		schema{"StreamsGroupCurrentMemberAssignmentValue", 0, 0, []field{
			{name: "memberEpoch", kind: tInt32}, {name: "previousMemberEpoch", kind: tInt32}, {name: "state", kind: tInt8},
			{name: "activeTasks", kind: tStructs, fields: taskIDs}, {name: "standbyTasks", kind: tStructs, fields: taskIDs}, {name: "warmupTasks", kind: tStructs, fields: taskIDs},
			{name: "activeTasksPendingRevocation", kind: tStructs, fields: taskIDs}, {name: "standbyTasksPendingRevocation", kind: tStructs, fields: taskIDs},
			{name: "warmupTasksPendingRevocation", kind: tStructs, fields: taskIDs},
		}}},
	{23, schema{"StreamsGroupTopologyKey", 0, never, groupKeyFields},
		schema{"StreamsGroupTopologyValue", 0, 0, []field{{name: "epoch", kind: tInt32}, {name: "subtopologies", kind: tStructs, fields: []field{
			{name: "subtopologyId", kind: tString}, {name: "sourceTopics", kind: tStrings}, {name: "sourceTopicRegex", kind: tStrings},
			{name: "stateChangelogTopics", kind: tStructs, fields: streamsTopic}, {name: "repartitionSinkTopics", kind: tStrings},
			{name: "repartitionSourceTopics", kind: tStructs, fields: streamsTopic},
			{name: "copartitionGroups", kind: tStructs, fields: []field{{name: "sourceTopics", kind: tInt16s}, {name: "sourceTopicRegex", kind: tInt16s}, {name: "repartitionSourceTopics", kind: tInt16s}}},
		}}}}},
}

var offsetFields = []field{
	{name: "offset", kind: tInt64}, {name: "leaderEpoch", kind: tInt32, from: 3}, {name: "metadata", kind: tString}, {name: "commitTimestamp", kind: tInt64},
	{name: "expireTimestamp", kind: tInt64, from: 1, until: 2}, {name: "topicId", kind: tUUID, from: 4, tag: 1},
}

var topicPartitions = []field{{name: "topic", kind: tString}, {name: "partitions", kind: tInt32s}}

// memberSchema is what the members of classic consumer groups send each other, inside a
// field of GroupMetadata (ConsumerProtocolSubscription and -Assignment). A later version
// only adds fields.
func memberSchema(fieldName string) *schema {
	if fieldName == "subscription" {
		return &schema{"ConsumerProtocolSubscription", 3, never, []field{
			{name: "topics", kind: tStrings}, {name: "userData", kind: tBytes, null: true},
			{name: "ownedPartitions", kind: tStructs, from: 1, fields: topicPartitions}, {name: "generationId", kind: tInt32, from: 2}, {name: "rackId", kind: tString, from: 3, null: true},
		}}
	}
	return &schema{"ConsumerProtocolAssignment", 3, never, []field{
		{name: "assignedPartitions", kind: tStructs, fields: topicPartitions}, {name: "userData", kind: tBytes, null: true},
	}}
}
