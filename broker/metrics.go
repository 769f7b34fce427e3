package broker

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rotpeter/rotpeter/protocol"
)

// metrics counts what the broker does and shows it to Prometheus.
//
// The names are those that a JMX exporter with the widely used Kafka rules
// gives Apache Kafka's figures (kafka_server_brokertopicmetrics_messagesin_total),
// so dashboards made for Kafka find them; what Kafka does not have is named
// rotpeter_*. A figure that this broker cannot tell truthfully is not shown:
// there are no network threads or request queues to report idle shares of.
//
// Requests pay atomic additions only. Everything that can be asked when it is
// wanted comes from facts, once for each scrape.
type metrics struct {
	apis    []*apiMetrics // by API key; nil for keys that are not served
	total   topicCounters
	topics  topicTable
	waiting [2]atomic.Int64 // by delayed

	transactions transactionCounters

	facts    func() brokerFacts
	now      func() time.Time
	registry *prometheus.Registry
	descs    metricDescs

	mu     sync.Mutex // one scrape at a time moves the window
	window durationWindow
}

// apiMetrics are the counters of one API.
type apiMetrics struct {
	key      int16
	name     string
	versions []atomic.Uint64              // by version, from 0 to the API's last
	other    atomic.Uint64                // versions the API does not have
	errors   [errorCodes + 1]atomic.Int64 // by code + 1: UNKNOWN_SERVER_ERROR is -1
	times    [timesCounted]durations
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
}

// The times of a request that are counted: until its answer was written, in its
// handler, and of that what the handler waited for: a commit, data, a group.
const (
	totalTime = iota
	localTime
	remoteTime
	timesCounted
)

// errorCodes bounds the codes that have a counter of their own; Kafka 4.3 uses
// -1 to 133. A code beyond counts as UNKNOWN_SERVER_ERROR.
const errorCodes = 160

// delayed names what a request may wait for: the labels of Kafka's purgatories.
type delayed int

const (
	delayedProduce delayed = iota
	delayedFetch
)

// newMetrics makes the metrics of one broker, with the names of its API table. facts is called at each scrape,
// from the scrape's goroutine; it must not wait for requests. version is what
// `rotpeter version` says.
func newMetrics(apis []api, version string, facts func() brokerFacts) *metrics {
	m := &metrics{facts: facts, now: time.Now, registry: prometheus.NewRegistry(), descs: newMetricDescs()}
	for _, a := range apis {
		for int(a.key) >= len(m.apis) {
			m.apis = append(m.apis, nil)
		}
		m.apis[a.key] = &apiMetrics{key: a.key, name: a.name, versions: make([]atomic.Uint64, int(a.max)+1)}
	}
	m.registry.MustRegister(
		m,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rotpeter_build_info", Help: "Always 1; the label tells the version.",
			ConstLabels: prometheus.Labels{"version": version},
		}, func() float64 { return 1 }),
	)
	return m
}

func (m *metrics) api(key int16) *apiMetrics {
	if key < 0 || int(key) >= len(m.apis) {
		return nil
	}
	return m.apis[key]
}

// observe counts a request that was answered, or that needed no answer.
func (m *metrics) observe(o protocol.Observation) {
	a := m.api(o.Key)
	if a == nil {
		return
	}
	if o.Version >= 0 && int(o.Version) < len(a.versions) {
		a.versions[o.Version].Add(1)
	} else {
		a.other.Add(1)
	}
	a.times[totalTime].observe(o.Took)
	a.times[localTime].observe(o.Local)
	a.times[remoteTime].observe(o.Remote)
	a.bytesIn.Add(uint64(o.RequestBytes))
	a.bytesOut.Add(uint64(o.ResponseBytes))
}

// errorCode counts one error code of an answer: Kafka counts each partition,
// topic or group that answers with one. Success (0) is not counted.
func (m *metrics) errorCode(key, code int16) {
	if a := m.api(key); a != nil && code != 0 {
		if code < -1 || code >= errorCodes {
			code = -1
		}
		a.errors[code+1].Add(1)
	}
}

// wait counts a request that begins (+1) or ends (-1) to wait.
func (m *metrics) wait(d delayed, change int64) { m.waiting[d].Add(change) }

// moved is what a request has written to or read from some partitions of a topic.
type moved struct{ partitions, records, bytes int }

// produced counts batches that were appended to partitions of the topic:
// records and their bytes as they arrived. A repeated
// batch that was recognised as such is not counted.
func (m *metrics) produced(topic string, n moved) {
	if n.partitions == 0 {
		return
	}
	for _, c := range m.both(topic) {
		c.messagesIn.Add(uint64(n.records))
		c.bytesIn.Add(uint64(n.bytes))
		c.produceRequests.Add(uint64(n.partitions))
	}
}

// rejected counts a partition of a Produce that was refused, with the bytes
// that came for it. Kafka counts bytes as rejected only when a batch is too
// large; here every refusal counts.
func (m *metrics) rejected(topic string, bytes int) {
	for _, c := range m.both(topic) {
		c.produceRequests.Add(1)
		c.produceFailed.Add(1)
		c.bytesRejected.Add(uint64(bytes))
	}
}

// fetched counts partitions of a Fetch that were answered with so many bytes.
func (m *metrics) fetched(topic string, n moved) {
	for _, c := range m.both(topic) {
		c.fetchRequests.Add(uint64(n.partitions))
		c.bytesOut.Add(uint64(n.bytes))
	}
}

// fetchFailed counts a partition of a Fetch that was answered with an error.
func (m *metrics) fetchFailed(topic string) {
	for _, c := range m.both(topic) {
		c.fetchRequests.Add(1)
		c.fetchFailed.Add(1)
	}
}

// both gives the counters that an event of a topic goes to.
func (m *metrics) both(topic string) [2]*topicCounters {
	return [2]*topicCounters{&m.total, m.topics.get(topic)}
}

// topicCounters are Kafka's BrokerTopicMetrics of one topic, or of all.
type topicCounters struct {
	messagesIn, bytesIn, bytesOut, bytesRejected atomic.Uint64
	produceRequests, produceFailed               atomic.Uint64
	fetchRequests, fetchFailed                   atomic.Uint64
}

// topicTable holds the counters by topic. A topic that is counted finds its
// own without a lock and without allocation.
type topicTable struct {
	byName sync.Map // string -> *topicCounters
}

func (t *topicTable) get(topic string) *topicCounters {
	c, ok := t.byName.Load(topic)
	if !ok {
		c, _ = t.byName.LoadOrStore(strings.Clone(topic), new(topicCounters))
	}
	return c.(*topicCounters)
}

// all gives the topics that have been counted, with their counters.
func (t *topicTable) all() map[string]*topicCounters {
	seen := map[string]*topicCounters{}
	t.byName.Range(func(name, c any) bool {
		seen[name.(string)] = c.(*topicCounters)
		return true
	})
	return seen
}

// forget drops the counters of a topic, unless they are others by now.
func (t *topicTable) forget(topic string, c *topicCounters) {
	t.byName.CompareAndDelete(topic, c)
}
