package broker

import (
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/protocol"
)

// metricDescs holds the names and labels of everything the collector sends.
type metricDescs struct {
	requests, errors, duration, bytesIn, bytesOut *prometheus.Desc
	times, timeCounts                             [timesCounted]*prometheus.Desc

	topic [8]*prometheus.Desc // in the order of topicCounters.values
	total [8]*prometheus.Desc // the same without the topic label

	purgatory                                                           *prometheus.Desc
	logSize, logStart, logEnd, logSegments, logDamaged                  *prometheus.Desc
	underMinISR, atMinISR, underReplicated, replicas, inSync, stableLag *prometheus.Desc

	connections, accepted, closedByListener, closed *prometheus.Desc
	verificationTimes, verificationCount            *prometheus.Desc
	raftState, dirOffline                           *prometheus.Desc
	plain                                           []plainMetric
}

// plainMetric is a figure without labels, read from the facts.
type plainMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*brokerFacts) float64
}

func newMetricDescs() metricDescs {
	desc := prometheus.NewDesc
	byTopic := []string{"topic", "partition"}
	d := metricDescs{
		requests: desc("kafka_network_requestmetrics_requests_total", "Requests answered.", []string{"request", "version"}, nil),
		errors:   desc("kafka_network_requestmetrics_errors_total", "Error codes in answers: one for each partition, topic or group that carries one. Success is not counted.", []string{"request", "error"}, nil),
		duration: desc("rotpeter_request_duration_seconds", "Time from a request's arrival to its answer. A Fetch or JoinGroup that waits counts its wait.", []string{"request"}, nil),
		bytesIn:  desc("rotpeter_request_bytes_total", "Bytes of requests, as framed.", []string{"request"}, nil),
		bytesOut: desc("rotpeter_response_bytes_total", "Bytes of answers, as framed.", []string{"request"}, nil),

		purgatory:   desc("kafka_server_delayedoperationpurgatory_purgatorysize", "Requests that wait now.", []string{"delayedOperation"}, nil),
		logSize:     desc("kafka_log_log_size", "Bytes of a partition's segments.", byTopic, nil),
		logStart:    desc("kafka_log_log_logstartoffset", "First offset of a partition.", byTopic, nil),
		logEnd:      desc("kafka_log_log_logendoffset", "Offset of the next record of a partition.", byTopic, nil),
		logSegments: desc("kafka_log_log_numlogsegments", "Segments of a partition.", byTopic, nil),
		logDamaged:  desc("rotpeter_log_damaged_ranges", "Ranges of offsets of a partition that answer KAFKA_STORAGE_ERROR; not sent for a partition without any.", byTopic, nil),

		underMinISR:     desc("kafka_cluster_partition_underminisr", "Always 0: one broker, one replica of each partition.", byTopic, nil),
		atMinISR:        desc("kafka_cluster_partition_atminisr", "Always 1: one broker, one replica of each partition.", byTopic, nil),
		underReplicated: desc("kafka_cluster_partition_underreplicated", "Always 0: one broker, one replica of each partition.", byTopic, nil),
		replicas:        desc("kafka_cluster_partition_replicascount", "Always 1: one broker, one replica of each partition.", byTopic, nil),
		inSync:          desc("kafka_cluster_partition_insyncreplicascount", "Always 1: one broker, one replica of each partition.", byTopic, nil),
		stableLag:       desc("kafka_cluster_partition_laststableoffsetlag", "Records after the last stable offset.", byTopic, nil),

		connections:      desc("kafka_server_socket_server_metrics_connection_count", "Open connections.", []string{"listener"}, nil),
		accepted:         desc("kafka_server_socket_server_metrics_connection_creation_total", "Connections accepted.", []string{"listener"}, nil),
		closedByListener: desc("kafka_server_socket_server_metrics_connection_close_total", "Connections closed.", []string{"listener"}, nil),
		closed:           desc("rotpeter_connections_closed_total", "Connections closed, by reason.", []string{"reason"}, nil),
		raftState:        desc("kafka_server_raftmetrics_current_state", "1 for the state of this node in the metadata quorum: it is its only voter.", []string{"current_state"}, nil),
		dirOffline:       desc("kafka_log_logmanager_logdirectoryoffline", "1 for a data directory that a storage error took out of service.", []string{"logDirectory"}, nil),
		plain:            plainMetrics(),
	}
	d.verificationTimes, d.verificationCount = verificationDescs()
	for i, n := range timeNames() {
		name := "kafka_network_requestmetrics_" + n.name
		d.times[i] = desc(name, n.help+", in milliseconds, over the last five minutes; within 12.5 %.", []string{"request", "quantile"}, nil)
		d.timeCounts[i] = desc(name+"_count", "Requests timed.", []string{"request"}, nil)
	}
	for i, n := range topicMetricNames() {
		name := "kafka_server_brokertopicmetrics_" + n.name
		d.topic[i] = desc(name, n.help, []string{"topic"}, nil)
		d.total[i] = desc(name, n.help, nil, nil)
	}
	return d
}

type nameAndHelp struct{ name, help string }

func timeNames() [timesCounted]nameAndHelp {
	return [timesCounted]nameAndHelp{
		totalTime:  {"totaltimems", "Quantiles of the time from a request's last byte to its answer"},
		localTime:  {"localtimems", "Quantiles of the time that handlers worked"},
		remoteTime: {"remotetimems", "Quantiles of the time that handlers waited for a commit, for data or for a group"},
	}
}

// topicMetricNames are in the order of topicCounters.values. Each is sent twice,
// as Kafka does: without a topic label for the whole broker, with it for a topic.
func topicMetricNames() [8]nameAndHelp {
	return [8]nameAndHelp{
		{"messagesin_total", "Records appended by producers."},
		{"bytesin_total", "Bytes of batches appended by producers."},
		{"bytesout_total", "Bytes of batches sent to consumers."},
		{"bytesrejected_total", "Bytes of batches refused."},
		{"totalproducerequests_total", "Partitions of Produce requests."},
		{"failedproducerequests_total", "Partitions of Produce requests answered with an error."},
		{"totalfetchrequests_total", "Partitions of Fetch requests."},
		{"failedfetchrequests_total", "Partitions of Fetch requests answered with an error."},
	}
}

func (c *topicCounters) values() [8]uint64 {
	return [8]uint64{
		c.messagesIn.Load(), c.bytesIn.Load(), c.bytesOut.Load(), c.bytesRejected.Load(),
		c.produceRequests.Load(), c.produceFailed.Load(), c.fetchRequests.Load(), c.fetchFailed.Load(),
	}
}

func plainMetrics() []plainMetric {
	var all []plainMetric
	add := func(kind prometheus.ValueType, name, help string, of func(*brokerFacts) float64) {
		all = append(all, plainMetric{prometheus.NewDesc(name, help, nil, nil), kind, of})
	}
	gauge := func(name, help string, of func(*brokerFacts) float64) { add(prometheus.GaugeValue, name, help, of) }
	counter := func(name, help string, of func(*brokerFacts) float64) { add(prometheus.CounterValue, name, help, of) }
	always := func(v float64) func(*brokerFacts) float64 { return func(*brokerFacts) float64 { return v } }
	logs := func(f *brokerFacts) float64 { return float64(len(f.Logs)) }

	gauge("kafka_server_kafkaserver_brokerstate", "0 not running, 1 starting, 2 recovery, 3 running, 6 pending shutdown, 7 shutting down.",
		func(f *brokerFacts) float64 { return float64(f.State) })

	const replica = "kafka_server_replicamanager_"
	gauge(replica+"leadercount", "Open partitions this broker leads: all of them.", logs)
	gauge(replica+"partitioncount", "Open partitions.", logs)
	gauge(replica+"offlinereplicacount", "Partitions that a storage error took out of service.",
		func(f *brokerFacts) float64 { return float64(f.OfflinePartitions) })
	gauge(replica+"underreplicatedpartitions", "Always 0: one replica of each partition.", always(0))
	gauge(replica+"underminisrpartitioncount", "Always 0: one replica of each partition.", always(0))
	gauge(replica+"atminisrpartitioncount", "Every open partition: one replica is all there is.", logs)
	gauge(replica+"reassigningpartitions", "Always 0: one broker.", always(0))
	counter(replica+"isrshrinks_total", "Always 0: one replica of each partition.", always(0))
	counter(replica+"isrexpands_total", "Always 0: one replica of each partition.", always(0))
	counter(replica+"failedisrupdates_total", "Always 0: one replica of each partition.", always(0))

	const controller = "kafka_controller_kafkacontroller_"
	gauge(controller+"activecontrollercount", "Always 1: the broker is its own controller.", always(1))
	gauge(controller+"activebrokercount", "Always 1.", always(1))
	gauge(controller+"fencedbrokercount", "Always 0.", always(0))
	gauge(controller+"globaltopiccount", "Topics.", func(f *brokerFacts) float64 { return float64(len(f.Topics)) })
	gauge(controller+"globalpartitioncount", "Partitions of all topics.", func(f *brokerFacts) float64 { return float64(f.Partitions) })
	gauge(controller+"offlinepartitionscount", "Partitions without a leader: those that a storage error took out of service.",
		func(f *brokerFacts) float64 { return float64(f.OfflinePartitions) })
	gauge(controller+"preferredreplicaimbalancecount", "Always 0: one replica of each partition.", always(0))
	counter("kafka_controller_controllerstats_uncleanleaderelections_total", "Always 0: one replica of each partition.", always(0))
	gauge("rotpeter_log_damaged_partitions", "Partitions with ranges of offsets that cannot be read, because durable data was found damaged. Damage in old segments is found when somebody reads there.",
		func(f *brokerFacts) float64 { return float64(f.damagedPartitions()) })
	gauge("kafka_log_logmanager_offlinelogdirectorycount", "Data directories that a storage error took out of service.",
		func(f *brokerFacts) float64 { return float64(f.OfflineLogDirs) })

	cleanerMetrics(gauge)
	transactionMetrics(gauge, counter)

	groupMetrics(gauge)
	all = append(all, groupsByKind()...)

	const raft = "kafka_server_raftmetrics_"
	gauge(raft+"current_leader", "Node id of the metadata quorum's leader.", func(f *brokerFacts) float64 { return float64(f.NodeID) })
	gauge(raft+"current_epoch", "Epoch of the metadata quorum.", func(f *brokerFacts) float64 { return float64(f.Metadata.Epoch) })
	gauge(raft+"high_watermark", "Metadata log: end of what is committed.", func(f *brokerFacts) float64 { return float64(f.Metadata.High) })
	gauge(raft+"log_end_offset", "Metadata log: offset of the next record.", func(f *brokerFacts) float64 { return float64(f.Metadata.End) })
	gauge("kafka_server_brokermetadatametrics_last_applied_record_offset", "Offset of the last metadata record that is in force.",
		func(f *brokerFacts) float64 { return float64(f.Metadata.High - 1) })

	const sessions = "kafka_server_fetchsessioncache_"
	gauge(sessions+"numincrementalfetchsessions", "Fetch sessions (KIP-227).", func(f *brokerFacts) float64 { return float64(f.FetchSessions) })
	gauge(sessions+"numincrementalfetchpartitionscached", "Partitions of all fetch sessions.", func(f *brokerFacts) float64 { return float64(f.FetchSessionPartitions) })
	counter(sessions+"incrementalfetchsessionevictions_total", "Fetch sessions that made room for others.", func(f *brokerFacts) float64 { return float64(f.FetchSessionEvictions) })

	gauge("kafka_network_socketserver_memorypoolused", "Bytes that requests hold of the memory for requests.", func(f *brokerFacts) float64 { return float64(f.RequestMemory) })
	gauge("kafka_network_socketserver_memorypoolavailable", "Bytes that requests may still take.", func(f *brokerFacts) float64 { return float64(f.RequestMemoryLimit - f.RequestMemory) })
	return all
}

// groupMetrics are those of groups of the classic protocol.
func groupMetrics(gauge func(name, help string, of func(*brokerFacts) float64)) {
	const groups = "kafka_coordinator_group_groupmetadatamanager_"
	gauge(groups+"numgroups", "Groups of the classic protocol.", func(f *brokerFacts) float64 { return float64(f.Groups.all()) })
	gauge(groups+"numgroupsempty", "Groups without members.", func(f *brokerFacts) float64 { return float64(f.Groups.Empty) })
	gauge(groups+"numgroupspreparingrebalance", "Groups that wait for members to join.", func(f *brokerFacts) float64 { return float64(f.Groups.PreparingRebalance) })
	gauge(groups+"numgroupscompletingrebalance", "Groups that wait for the leader's assignment.", func(f *brokerFacts) float64 { return float64(f.Groups.CompletingRebalance) })
	gauge(groups+"numgroupsstable", "Groups whose members have their partitions.", func(f *brokerFacts) float64 { return float64(f.Groups.Stable) })
	gauge(groups+"numgroupsdead", "Groups that are gone.", func(f *brokerFacts) float64 { return float64(f.Groups.Dead) })
	gauge(groups+"numoffsets", "Committed offsets that are kept.", func(f *brokerFacts) float64 { return float64(f.Groups.Offsets) })
}

// groupsByKind count groups by protocol, and those of the newer one by state (KIP-848, GroupCoordinatorMetrics).
func groupsByKind() []plainMetric {
	var all []plainMetric
	add := func(name, help, label, value string, of func(*groupFacts) int) {
		d := prometheus.NewDesc("kafka_server_group_coordinator_metrics_"+name, help, nil, prometheus.Labels{label: value})
		all = append(all, plainMetric{d, prometheus.GaugeValue, func(f *brokerFacts) float64 { return float64(of(&f.Groups)) }})
	}
	const byProtocol, byState = "Groups, by protocol.", "Groups of the consumer protocol, by state."
	add("group_count", byProtocol, "protocol", "classic", (*groupFacts).all)
	add("group_count", byProtocol, "protocol", "consumer", (*groupFacts).consumers)
	add("consumer_group_count", byState, "state", "empty", func(g *groupFacts) int { return g.ConsumerEmpty })
	add("consumer_group_count", byState, "state", "assigning", func(g *groupFacts) int { return g.ConsumerAssigning })
	add("consumer_group_count", byState, "state", "reconciling", func(g *groupFacts) int { return g.ConsumerReconciling })
	add("consumer_group_count", byState, "state", "stable", func(g *groupFacts) int { return g.ConsumerStable })
	return all
}

// cleanerMetrics are those of compaction.
func cleanerMetrics(gauge func(name, help string, of func(*brokerFacts) float64)) {
	const cleaner = "kafka_log_logcleaner_"
	gauge(cleaner+"cleaner_recopy_percent", "Of the last log compacted: bytes written, in percent of those read.", func(f *brokerFacts) float64 {
		if f.Cleaner.BytesRead == 0 {
			return 0
		}
		return 100 * float64(f.Cleaner.BytesWritten) / float64(f.Cleaner.BytesRead)
	})
	gauge(cleaner+"max_buffer_utilization_percent", "Of the last log compacted: how full the map of keys was.",
		func(f *brokerFacts) float64 { return 100 * f.Cleaner.MapUse })
	gauge(cleaner+"max_clean_time_secs", "Of the last log compacted: how long it took.", func(f *brokerFacts) float64 { return f.Cleaner.Duration.Seconds() })
	gauge(cleaner+"max_compaction_delay_secs", "By how much the most overdue log has passed max.compaction.lag.ms.",
		func(f *brokerFacts) float64 { return float64(f.Cleaner.Delay) / 1000 })
	gauge(cleaner+"deadthreadcount", "Always 0: the cleaner ends with the broker.", func(*brokerFacts) float64 { return 0 })
	const manager = "kafka_log_logcleanermanager_"
	gauge(manager+"max_dirty_percent", "Share of the dirtiest log that is not compacted.", func(f *brokerFacts) float64 { return 100 * f.Cleaner.DirtyRatio })
	gauge(manager+"uncleanable_partitions_count", "Logs that cannot be compacted: the broker's log says why.", func(f *brokerFacts) float64 { return float64(f.Cleaner.Uncleanable) })
	gauge(manager+"uncleanable_bytes", "Bytes of those logs that would have been compacted.", func(f *brokerFacts) float64 { return float64(f.Cleaner.UncleanableBytes) })
	gauge(manager+"time_since_last_run_ms", "Time since the cleaner last looked for something to do.", func(f *brokerFacts) float64 {
		return float64(f.Cleaner.Idle.Milliseconds())
	})
}

// Describe sends nothing: per-topic series come and go, and the registry then
// checks each scrape for itself.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends every series. The topics that have been counted are read
// before the facts: one that the facts do not know is then really gone, and
// its counters with it.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.topics.all()
	f := m.facts()
	s := metricSeries{out}
	m.collectRequests(s)
	m.collectTopics(s, seen, f.Topics)
	m.collectLogs(s, f.Logs)
	for i, name := range []string{"Produce", "Fetch"} {
		s.gauge(m.descs.purgatory, float64(m.waiting[i].Load()), name)
	}
	for name, l := range f.Listeners {
		s.gauge(m.descs.connections, float64(l.Open), name)
		s.counter(m.descs.accepted, float64(l.Accepted), name)
		s.counter(m.descs.closedByListener, float64(l.Closed), name)
	}
	for _, reason := range protocol.Reasons() {
		s.counter(m.descs.closed, float64(f.Closed[string(reason)]), string(reason))
	}
	s.gauge(m.descs.raftState, 1, "leader")
	for _, d := range f.LogDirs {
		offline := 0.0
		if d.Offline {
			offline = 1
		}
		s.gauge(m.descs.dirOffline, offline, d.Name)
	}
	for _, p := range m.descs.plain {
		s.send(p.desc, p.kind, p.of(&f))
	}
}

// metricSeries sends constant metrics to a scrape.
type metricSeries struct{ out chan<- prometheus.Metric }

func (s metricSeries) send(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
}

func (s metricSeries) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.send(d, prometheus.GaugeValue, v, labels...)
}

func (s metricSeries) counter(d *prometheus.Desc, v float64, labels ...string) {
	s.send(d, prometheus.CounterValue, v, labels...)
}

func (m *metrics) collectTopics(s metricSeries, seen map[string]*topicCounters, exist []string) {
	send := func(descs *[8]*prometheus.Desc, c *topicCounters, labels ...string) {
		for i, v := range c.values() {
			s.counter(descs[i], float64(v), labels...)
		}
	}
	send(&m.descs.total, &m.total)
	exist = slices.Sorted(slices.Values(exist))
	for topic, c := range seen {
		if _, ok := slices.BinarySearch(exist, topic); !ok {
			m.topics.forget(topic, c)
			continue
		}
		send(&m.descs.topic, c, topic)
	}
}

func (m *metrics) collectLogs(s metricSeries, logs []logFacts) {
	for i := range logs {
		l := &logs[i]
		partition := strconv.Itoa(int(l.Partition))
		s.gauge(m.descs.logSize, float64(l.Bytes), l.Topic, partition)
		s.gauge(m.descs.logStart, float64(l.Start), l.Topic, partition)
		s.gauge(m.descs.logEnd, float64(l.End), l.Topic, partition)
		s.gauge(m.descs.logSegments, float64(l.Segments), l.Topic, partition)
		if l.Damaged > 0 {
			s.gauge(m.descs.logDamaged, float64(l.Damaged), l.Topic, partition)
		}
		s.gauge(m.descs.underMinISR, 0, l.Topic, partition)
		s.gauge(m.descs.atMinISR, 1, l.Topic, partition)
		s.gauge(m.descs.underReplicated, 0, l.Topic, partition)
		s.gauge(m.descs.replicas, 1, l.Topic, partition)
		s.gauge(m.descs.inSync, 1, l.Topic, partition)
		s.gauge(m.descs.stableLag, float64(l.End-l.Stable), l.Topic, partition)
	}
}

func (m *metrics) collectRequests(s metricSeries) {
	present := make([]*durationCounts, len(m.apis)*timesCounted)
	for i := range present {
		if a := m.apis[i/timesCounted]; a != nil {
			present[i] = a.times[i%timesCounted].counts()
		}
	}
	verification := m.transactions.verification.counts()
	earlier := m.window.move(m.now(), append(present, verification))
	m.collectVerification(s, verification, earlier[len(present)])
	for i, a := range m.apis {
		if a == nil {
			continue
		}
		for _, name := range a.names() {
			m.collectAPI(s, a, name, present[i*timesCounted:], earlier[i*timesCounted:])
		}
	}
}

// names are the values of the label request. Kafka counts a consumer's Fetch
// as FetchConsumer and as Fetch, and this broker has no followers.
func (a *apiMetrics) names() []string {
	if a.key == keyFetch {
		return []string{a.name, a.name + "Consumer"}
	}
	return []string{a.name}
}

func (m *metrics) collectAPI(s metricSeries, a *apiMetrics, name string, present, earlier []*durationCounts) {
	d := &m.descs
	for v := range a.versions {
		s.counter(d.requests, float64(a.versions[v].Load()), name, strconv.Itoa(v))
	}
	if n := a.other.Load(); n > 0 {
		s.counter(d.requests, float64(n), name, "unsupported")
	}
	for i := range a.errors {
		if n := a.errors[i].Load(); n > 0 {
			s.counter(d.errors, float64(n), name, errorName(int16(i-1)))
		}
	}
	for i := range timesCounted {
		for _, q := range timeQuantiles() {
			s.gauge(d.times[i], present[i].quantile(q.share, earlier[i]), name, q.label)
		}
		s.counter(d.timeCounts[i], float64(present[i].total()), name)
	}
	total := present[totalTime]
	seconds := float64(a.times[totalTime].nanos.Load()) / 1e9
	s.out <- prometheus.MustNewConstHistogram(d.duration, total.total(), seconds, total.cumulative(), name)
	s.counter(d.bytesIn, float64(a.bytesIn.Load()), name)
	s.counter(d.bytesOut, float64(a.bytesOut.Load()), name)
}

type timeQuantile struct {
	label string // as the JMX exporter writes it
	share float64
}

func timeQuantiles() [6]timeQuantile {
	return [6]timeQuantile{{"0.50", 0.5}, {"0.75", 0.75}, {"0.95", 0.95}, {"0.98", 0.98}, {"0.99", 0.99}, {"0.999", 0.999}}
}

// errorName gives Kafka's name of an error code; codes that it does not have
// share the name of -1.
func errorName(code int16) string {
	if e := kerr.TypedErrorForCode(code); e != nil {
		return strings.ToUpper(e.Message)
	}
	return kerr.UnknownServerError.Message
}
