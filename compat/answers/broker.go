package answers

// Settings are what a broker is started with, ours and Kafka, so that every
// case can be provoked in little time: full groups, sessions that end soon.
var Settings = []string{
	"node.id=1",
	"offsets.topic.replication.factor=1",
	"group.initial.rebalance.delay.ms=0",
	"group.max.size=3",
	"group.min.session.timeout.ms=100",
	"group.consumer.max.size=4",
	"group.consumer.min.session.timeout.ms=100",
	"group.consumer.min.heartbeat.interval.ms=50",
	"transaction.abort.timed.out.transaction.cleanup.interval.ms=200",
}
