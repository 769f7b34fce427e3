package config

// groupSettings are the settings of a group (GroupConfig, KIP-848 and KIP-932).
var groupSettings = []Setting{
	{Name: "consumer.session.timeout.ms", Type: Int, Default: "45000", Check: atLeast(1), Synonyms: []string{"group.consumer.session.timeout.ms"},
		Effect: works, Doc: "Time without a heartbeat after which a member of this group (consumer protocol) is removed."},
	{Name: "consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Check: atLeast(1), Synonyms: []string{"group.consumer.heartbeat.interval.ms"},
		Effect: works, Doc: "How often the members of this group (consumer protocol) are told to send heartbeats."},
	{Name: "consumer.assignment.interval.ms", Type: Int, Default: "1000", Check: atLeast(0), Synonyms: []string{"group.consumer.assignment.interval.ms"},
		Effect: works, Doc: "Shortest time between two computations of this group's assignment (consumer protocol)."},
	{Name: "share.session.timeout.ms", Type: Int, Default: "45000", Check: atLeast(1), Synonyms: []string{"group.share.session.timeout.ms"},
		Effect: none(share), Doc: "Time without a heartbeat after which a member of this share group is removed."},
	{Name: "share.heartbeat.interval.ms", Type: Int, Default: "5000", Check: atLeast(1), Synonyms: []string{"group.share.heartbeat.interval.ms"},
		Effect: none(share), Doc: "How often the members of this share group are told to send heartbeats."},
	{Name: "share.record.lock.duration.ms", Type: Int, Default: "30000", Check: atLeast(1000), Synonyms: []string{"group.share.record.lock.duration.ms"},
		Effect: none(share), Doc: "How long a record handed to a member of this share group stays reserved for that member."},
	{Name: "share.delivery.count.limit", Type: Int, Default: "5", Check: atLeast(2), Synonyms: []string{"group.share.delivery.count.limit"},
		Effect: none(share), Doc: "How often a record may be delivered to this share group before it counts as failed."},
	{Name: "share.partition.max.record.locks", Type: Int, Default: "2000", Check: atLeast(100), Synonyms: []string{"group.share.partition.max.record.locks"},
		Effect: none(share), Doc: "How many records of one partition this share group may have reserved at a time."},
	{Name: "share.auto.offset.reset", Type: String, Default: "latest", Check: offsetReset(),
		Effect: none(share), Doc: "Where a share group without a position starts: earliest, latest, or by_duration: and an ISO 8601 duration back from now."},
	{Name: "share.isolation.level", Type: String, Default: "read_uncommitted", Check: oneOf("read_committed", "read_uncommitted"),
		Effect: none(share), Doc: "Whether this share group sees records of open and aborted transactions."},
	{Name: "share.renew.acknowledge.enable", Type: Boolean, Default: "true",
		Effect: none(share), Doc: "Whether members of this share group may renew their hold on a record."},
	{Name: "share.assignment.interval.ms", Type: Int, Default: "1000", Check: atLeast(0), Synonyms: []string{"group.share.assignment.interval.ms"},
		Effect: none(share), Doc: "Shortest time between two computations of this share group's assignment."},
	{Name: "streams.session.timeout.ms", Type: Int, Default: "45000", Check: atLeast(1), Synonyms: []string{"group.streams.session.timeout.ms"},
		Effect: none(streams), Doc: "Time without a heartbeat after which a member of this streams group is removed."},
	{Name: "streams.heartbeat.interval.ms", Type: Int, Default: "5000", Check: atLeast(1), Synonyms: []string{"group.streams.heartbeat.interval.ms"},
		Effect: none(streams), Doc: "How often the members of this streams group are told to send heartbeats."},
	{Name: "streams.num.standby.replicas", Type: Int, Default: "0", Check: atLeast(0), Synonyms: []string{"group.streams.num.standby.replicas"},
		Effect: none(streams), Doc: "Standby copies of each stateful task that this streams group asks for."},
	{Name: "streams.initial.rebalance.delay.ms", Type: Int, Default: "3000", Check: atLeast(0), Synonyms: []string{"group.streams.initial.rebalance.delay.ms"},
		Effect: none(streams), Doc: "How long an empty streams group waits for more members before its first assignment."},
	{Name: "streams.assignment.interval.ms", Type: Int, Default: "1000", Check: atLeast(0), Synonyms: []string{"group.streams.assignment.interval.ms"},
		Effect: none(streams), Doc: "Shortest time between two computations of this streams group's assignment."},
}

// clientMetricsSettings are the settings of a client metrics subscription (ClientMetricsConfigs, KIP-714).
var clientMetricsSettings = []Setting{
	{Name: "metrics", Type: List, Check: anyList(),
		Effect: none(telemetry), Doc: "Prefixes of the client metrics wanted by this subscription; * asks for all of them, an empty list for none."},
	{Name: "interval.ms", Type: Int, Default: "300000",
		Effect: none(telemetry), Doc: "How often a matching client pushes its metrics, from 100 ms to one hour."},
	{Name: "match", Type: List, Check: anyList(),
		Effect: none(telemetry), Doc: "Selectors key=regular expression that a client has to meet. Keys: client_id, client_instance_id, client_software_name, client_software_version, client_source_address, client_source_port."},
}
