package broker

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rotpeter/rotpeter/log"
)

// transactionCounters are counted where transactions are at work.
type transactionCounters struct {
	lateRequests         atomic.Int64 // see Broker.late
	verificationFailures atomic.Int64 // partitions that a coordinator did not have, or could not add
	verification         durations    // of questions to a coordinator
	markers              atomic.Int64 // that are not written yet
	markersFailed        atomic.Int64 // of these: could not be written, and will be tried again
}

// transactionFacts are read at a scrape.
type transactionFacts struct {
	Producers int // that logs know, each in each
	// LateLogs are those whose oldest transaction is open for longer than any may be.
	LateLogs int

	Late, VerificationFailures, Markers, MarkersFailed int64
}

// lateTransaction is what Kafka adds to transaction.max.timeout.ms before a transaction is one that hangs
// (ProducerStateManager.LATE_TRANSACTION_BUFFER_MS).
const lateTransaction = 5 * time.Minute

// add counts the transactions of a log.
func (f *transactionFacts) add(l *log.Log, now time.Time, longest time.Duration) {
	known, oldest := l.ProducerStats()
	if f.Producers += known; oldest > 0 && now.UnixMilli()-oldest > (longest+lateTransaction).Milliseconds() {
		f.LateLogs++
	}
}

// read takes over what was counted.
func (f *transactionFacts) read(c *transactionCounters) {
	f.Late, f.VerificationFailures = c.lateRequests.Load(), c.verificationFailures.Load()
	f.Markers, f.MarkersFailed = c.markers.Load(), c.markersFailed.Load()
}

// verified counts a question to a coordinator: how long it took, and the partitions that were refused.
func (c *transactionCounters) verified(took time.Duration, codes []int16) {
	c.verification.observe(took)
	for _, code := range codes {
		if code != 0 {
			c.verificationFailures.Add(1)
		}
	}
}

type addMetric func(name, help string, of func(*brokerFacts) float64)

func transactionMetrics(gauge, counter addMetric) {
	const replica = "kafka_server_replicamanager_"
	gauge(replica+"produceridcount", "Producers that logs know, each as often as there are logs that do.",
		func(f *brokerFacts) float64 { return float64(f.Transactions.Producers) })
	gauge(replica+"partitionswithlatetransactionscount", "Partitions whose oldest transaction is open for five minutes longer than transaction.max.timeout.ms: it hangs.",
		func(f *brokerFacts) float64 { return float64(f.Transactions.LateLogs) })
	const channels = "kafka_coordinator_transaction_transactionmarkerchannelmanager_"
	gauge(channels+"unknowndestinationqueuesize", "Transaction markers that could not be written, as their partition is out of service, and are tried again.",
		func(f *brokerFacts) float64 { return float64(f.Transactions.MarkersFailed) })
	gauge(channels+"logappendretryqueuesize", "Always 0: a coordinator that cannot write is loaded again.", func(*brokerFacts) float64 { return 0 })
	counter("kafka_server_addpartitionstotxnmanager_verificationfailurerate_count", "Partitions that a transaction's coordinator did not have in it, or could not add.",
		func(f *brokerFacts) float64 { return float64(f.Transactions.VerificationFailures) })
	gauge("rotpeter_transactions_markers_pending", "Transaction markers that are not written yet.", func(f *brokerFacts) float64 { return float64(f.Transactions.Markers) })
	counter("rotpeter_transactions_late_requests_total", "Requests of transactions that came over a connection which their producer had given up, and were hung up on.",
		func(f *brokerFacts) float64 { return float64(f.Transactions.Late) })
}

const verificationTime = "kafka_server_addpartitionstotxnmanager_verificationtimems"

func verificationDescs() (times, count *prometheus.Desc) {
	return prometheus.NewDesc(verificationTime, "Quantiles of the time that a transaction's coordinator took to verify or add partitions, in milliseconds, over the last five minutes; within 12.5 %.", []string{"quantile"}, nil),
		prometheus.NewDesc(verificationTime+"_count", "Questions to a transaction's coordinator.", nil, nil)
}

// collectVerification sends how long coordinators took.
func (m *metrics) collectVerification(s metricSeries, present, earlier *durationCounts) {
	for _, q := range timeQuantiles() {
		s.gauge(m.descs.verificationTimes, present.quantile(q.share, earlier), q.label)
	}
	s.counter(m.descs.verificationCount, float64(present.total()))
}
