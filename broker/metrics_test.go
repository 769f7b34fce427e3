package broker

import (
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/rotpeter/rotpeter/protocol"
)

// scraped holds the samples of one scrape as Prometheus would store them: the
// name with its labels in order, and the value.
type scraped map[string]float64

// scrape reads /metrics through Prometheus' own parser.
func scrape(t *testing.T, m *metrics) scraped {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape answers %d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := scraped{}
	for name, family := range families {
		if family.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		for _, s := range family.Metric {
			var labels []string
			for _, l := range s.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			switch {
			case s.Histogram != nil:
				got[sample(name+"_count", labels)] = float64(s.Histogram.GetSampleCount())
				got[sample(name+"_sum", labels)] = s.Histogram.GetSampleSum()
			case s.Summary != nil:
				got[sample(name+"_count", labels)] = float64(s.Summary.GetSampleCount())
			default:
				got[sample(name, labels)] = s.GetGauge().GetValue() + s.GetCounter().GetValue()
			}
		}
	}
	return got
}

// sample writes a name with its labels in order.
func sample(name string, labels []string) string {
	if len(labels) == 0 {
		return name
	}
	slices.Sort(labels)
	return name + "{" + strings.Join(labels, ",") + "}"
}

// want compares samples; NaN in the table means that the sample must be missing.
func (got scraped) want(t *testing.T, table map[string]float64) {
	t.Helper()
	for name, v := range table {
		x, ok := got[name]
		switch {
		case math.IsNaN(v):
			if ok {
				t.Errorf("%s is %v, want none", name, x)
			}
		case !ok:
			t.Errorf("%s is missing, want %v", name, v)
		case x != v:
			t.Errorf("%s is %v, want %v", name, x, v)
		}
	}
}

var none = math.NaN()

func testMetrics(facts *brokerFacts) *metrics {
	apis := []api{
		{key: 0, name: "Produce", min: 3, max: 13}, {key: 1, name: "Fetch", min: 4, max: 18},
		{key: 18, name: "ApiVersions", max: 4}, {key: 22, name: "InitProducerId", max: 6},
	}
	return newMetrics(apis, "v1.2.3", func() brokerFacts { return *facts })
}

func TestMetricsBeforeAnyRequest(t *testing.T) {
	got := scrape(t, testMetrics(&brokerFacts{State: stateStarting, NodeID: 1}))
	got.want(t, map[string]float64{
		"kafka_server_brokertopicmetrics_messagesin_total":                               0,
		"kafka_server_brokertopicmetrics_bytesin_total":                                  0,
		"kafka_server_brokertopicmetrics_bytesout_total":                                 0,
		"kafka_server_brokertopicmetrics_totalproducerequests_total":                     0,
		"kafka_server_brokertopicmetrics_failedfetchrequests_total":                      0,
		"kafka_network_requestmetrics_requests_total{request=Produce,version=13}":        0,
		"kafka_network_requestmetrics_requests_total{request=FetchConsumer,version=18}":  0,
		"kafka_network_requestmetrics_requests_total{request=InitProducerId,version=6}":  0,
		"kafka_network_requestmetrics_totaltimems_count{request=Produce}":                0,
		"kafka_server_replicamanager_leadercount":                                        0,
		"kafka_server_replicamanager_underreplicatedpartitions":                          0,
		"kafka_server_replicamanager_isrshrinks_total":                                   0,
		"kafka_controller_kafkacontroller_activecontrollercount":                         1,
		"kafka_controller_kafkacontroller_globaltopiccount":                              0,
		"kafka_controller_controllerstats_uncleanleaderelections_total":                  0,
		"kafka_coordinator_group_groupmetadatamanager_numgroups":                         0,
		"kafka_server_kafkaserver_brokerstate":                                           1,
		"kafka_server_delayedoperationpurgatory_purgatorysize{delayedOperation=Produce}": 0,
		"rotpeter_build_info{version=v1.2.3}":                                            1,
	})
	for _, name := range []string{"go_goroutines", "go_memstats_heap_alloc_bytes", "process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	for name := range got {
		if strings.HasPrefix(name, "kafka_network_requestmetrics_errors_total") {
			t.Errorf("%s: nothing has failed", name)
		}
	}
}

func TestMetricsOfRequests(t *testing.T) {
	m := testMetrics(&brokerFacts{})
	for range 10 {
		m.observe(protocol.Observation{Key: 0, Version: 12, Took: 2 * time.Millisecond, Local: 100 * time.Microsecond, Remote: 1800 * time.Microsecond, RequestBytes: 100, ResponseBytes: 30})
	}
	m.observe(protocol.Observation{Key: 0, Version: 3, Took: time.Second, RequestBytes: 1, ResponseBytes: 1})
	m.observe(protocol.Observation{Key: 1, Version: 18, Took: 500 * time.Millisecond, ResponseBytes: 1 << 20})
	m.observe(protocol.Observation{Key: 18, Version: 32000})
	m.observe(protocol.Observation{Key: 18, Version: -5})
	m.observe(protocol.Observation{Key: 71, Version: 0}) // not served
	m.observe(protocol.Observation{Key: -1, Version: 0})
	m.observe(protocol.Observation{Key: 22, Version: 6, Took: -time.Second})
	m.errorCode(0, 3)
	m.errorCode(0, 3)
	m.errorCode(0, -1)
	m.errorCode(0, 9999)
	m.errorCode(0, -9999)
	m.errorCode(0, 0)
	m.errorCode(71, 3)
	m.wait(delayedFetch, 2)
	m.wait(delayedFetch, -1)
	got := scrape(t, m)
	got.want(t, map[string]float64{
		"kafka_network_requestmetrics_requests_total{request=Produce,version=12}":                     10,
		"kafka_network_requestmetrics_requests_total{request=Produce,version=3}":                      1,
		"kafka_network_requestmetrics_requests_total{request=Fetch,version=18}":                       1,
		"kafka_network_requestmetrics_requests_total{request=FetchConsumer,version=18}":               1,
		"kafka_network_requestmetrics_requests_total{request=ApiVersions,version=unsupported}":        2,
		"kafka_network_requestmetrics_requests_total{request=ApiVersions,version=4}":                  0,
		"kafka_network_requestmetrics_requests_total{request=InitProducerId,version=6}":               1,
		"kafka_network_requestmetrics_errors_total{error=UNKNOWN_TOPIC_OR_PARTITION,request=Produce}": 2,
		"kafka_network_requestmetrics_errors_total{error=UNKNOWN_SERVER_ERROR,request=Produce}":       3,
		"kafka_network_requestmetrics_errors_total{error=NONE,request=Produce}":                       none,
		"kafka_network_requestmetrics_totaltimems_count{request=Produce}":                             11,
		"rotpeter_request_duration_seconds_count{request=Produce}":                                    11,
		"rotpeter_request_duration_seconds_sum{request=Produce}":                                      1.02,
		"rotpeter_request_duration_seconds_count{request=InitProducerId}":                             1,
		"rotpeter_request_duration_seconds_sum{request=InitProducerId}":                               0,
		"rotpeter_request_bytes_total{request=Produce}":                                               1001,
		"rotpeter_response_bytes_total{request=Produce}":                                              301,
		"rotpeter_response_bytes_total{request=Fetch}":                                                1 << 20,
		"kafka_server_delayedoperationpurgatory_purgatorysize{delayedOperation=Fetch}":                1,
	})
	near(t, got["kafka_network_requestmetrics_totaltimems{quantile=0.50,request=Produce}"], 2)
	near(t, got["kafka_network_requestmetrics_localtimems{quantile=0.50,request=Produce}"], 0.1)
	near(t, got["kafka_network_requestmetrics_remotetimems{quantile=0.50,request=Produce}"], 1.8)
	near(t, got["kafka_network_requestmetrics_totaltimems{quantile=0.999,request=Produce}"], 1000)
	near(t, got["kafka_network_requestmetrics_totaltimems{quantile=0.99,request=FetchConsumer}"], 500)
}

// near allows the width of a bucket.
func near(t *testing.T, got, want float64) {
	t.Helper()
	if got < want*0.875 || got > want*1.125 || math.IsNaN(got) {
		t.Errorf("%v is not within 12.5 %% of %v", got, want)
	}
}

func TestMetricsOfTopics(t *testing.T) {
	facts := &brokerFacts{Topics: []string{"orders", "clicks", "quiet"}, Partitions: 7}
	m := testMetrics(facts)
	m.produced("orders", moved{1, 10, 1000})
	m.produced("clicks", moved{1, 5, 50})
	m.rejected("orders", 300)
	m.fetched("orders", moved{partitions: 1, bytes: 1000})
	m.fetched("orders", moved{partitions: 1, bytes: 1000})
	m.fetchFailed("clicks")
	const metric = "kafka_server_brokertopicmetrics_"
	scrape(t, m).want(t, map[string]float64{
		metric + "messagesin_total":                             15,
		metric + "messagesin_total{topic=orders}":               10,
		metric + "messagesin_total{topic=clicks}":               5,
		metric + "messagesin_total{topic=quiet}":                none,
		metric + "bytesin_total":                                1050,
		metric + "bytesin_total{topic=orders}":                  1000,
		metric + "bytesrejected_total{topic=orders}":            300,
		metric + "totalproducerequests_total":                   3,
		metric + "totalproducerequests_total{topic=orders}":     2,
		metric + "failedproducerequests_total{topic=orders}":    1,
		metric + "bytesout_total{topic=orders}":                 2000,
		metric + "totalfetchrequests_total":                     3,
		metric + "failedfetchrequests_total{topic=clicks}":      1,
		metric + "failedfetchrequests_total{topic=orders}":      0,
		"kafka_controller_kafkacontroller_globaltopiccount":     3,
		"kafka_controller_kafkacontroller_globalpartitioncount": 7,
	})

	// The series of a deleted topic vanish, the broker's totals stay, and a
	// topic of the same name begins at zero.
	facts.Topics = []string{"clicks"}
	scrape(t, m).want(t, map[string]float64{
		metric + "messagesin_total":               15,
		metric + "messagesin_total{topic=orders}": none,
		metric + "messagesin_total{topic=clicks}": 5,
	})
	facts.Topics = []string{"clicks", "orders"}
	m.produced("orders", moved{1, 1, 10})
	scrape(t, m).want(t, map[string]float64{
		metric + "messagesin_total":               16,
		metric + "messagesin_total{topic=orders}": 1,
	})
}

// TestMetricsOfNewTopicDuringScrape: a topic that is made and produced to while
// a scrape is under way must not lose its counts.
func TestMetricsOfNewTopicDuringScrape(t *testing.T) {
	facts := &brokerFacts{}
	m := testMetrics(facts)
	m.facts = func() brokerFacts {
		old := *facts
		m.produced("new", moved{1, 3, 30}) // after the scrape looked at what exists
		return old
	}
	scrape(t, m)
	m.facts = func() brokerFacts { return brokerFacts{Topics: []string{"new"}} }
	scrape(t, m).want(t, map[string]float64{"kafka_server_brokertopicmetrics_messagesin_total{topic=new}": 3})
}

func TestMetricsOfFacts(t *testing.T) {
	m := testMetrics(&brokerFacts{
		State: stateRunning, NodeID: 7,
		Logs: []logFacts{
			{Topic: "orders", Partition: 0, Start: 5, Stable: 90, End: 100, Bytes: 4096, Segments: 2, Damaged: 3},
			{Topic: "orders", Partition: 11, End: 1, Stable: 1, Bytes: 77, Segments: 1},
		},
		OfflineLogDirs: 1, OfflinePartitions: 2, LogDirs: []logDirFacts{{Name: "/one"}, {Name: "/two", Offline: true}},
		Groups:        groupFacts{Empty: 1, PreparingRebalance: 2, CompletingRebalance: 3, Stable: 4, Dead: 5, Offsets: 60, ConsumerEmpty: 1, ConsumerAssigning: 2, ConsumerReconciling: 3, ConsumerStable: 5},
		Metadata:      metadataFacts{Epoch: 2, End: 40, High: 39},
		FetchSessions: 3, FetchSessionPartitions: 30, FetchSessionEvictions: 1,
		Listeners:     map[string]listenerFacts{"PLAINTEXT": {Open: 2, Accepted: 10, Closed: 8}},
		Closed:        map[string]int64{"frame_too_large": 3, "eof": 5},
		RequestMemory: 100, RequestMemoryLimit: 1000,
	})
	scrape(t, m).want(t, map[string]float64{
		"kafka_server_kafkaserver_brokerstate":                                             3,
		"kafka_log_log_size{partition=0,topic=orders}":                                     4096,
		"kafka_log_log_logstartoffset{partition=0,topic=orders}":                           5,
		"kafka_log_log_logendoffset{partition=0,topic=orders}":                             100,
		"kafka_log_log_numlogsegments{partition=0,topic=orders}":                           2,
		"kafka_log_log_size{partition=11,topic=orders}":                                    77,
		"kafka_cluster_partition_laststableoffsetlag{partition=0,topic=orders}":            10,
		"kafka_cluster_partition_underminisr{partition=11,topic=orders}":                   0,
		"kafka_server_replicamanager_leadercount":                                          2,
		"kafka_server_replicamanager_partitioncount":                                       2,
		"kafka_server_replicamanager_offlinereplicacount":                                  2,
		"kafka_controller_kafkacontroller_offlinepartitionscount":                          2,
		"kafka_log_logmanager_offlinelogdirectorycount":                                    1,
		"kafka_log_logmanager_logdirectoryoffline{logDirectory=/one}":                      0,
		"kafka_log_logmanager_logdirectoryoffline{logDirectory=/two}":                      1,
		"rotpeter_log_damaged_partitions":                                                  1,
		"rotpeter_log_damaged_ranges{partition=0,topic=orders}":                            3,
		"kafka_coordinator_group_groupmetadatamanager_numgroups":                           15,
		"kafka_coordinator_group_groupmetadatamanager_numgroupsstable":                     4,
		"kafka_coordinator_group_groupmetadatamanager_numoffsets":                          60,
		"kafka_server_group_coordinator_metrics_group_count{protocol=classic}":             15,
		"kafka_server_group_coordinator_metrics_group_count{protocol=consumer}":            11,
		"kafka_server_group_coordinator_metrics_consumer_group_count{state=reconciling}":   3,
		"kafka_server_raftmetrics_current_leader":                                          7,
		"kafka_server_raftmetrics_log_end_offset":                                          40,
		"kafka_server_raftmetrics_current_state{current_state=leader}":                     1,
		"kafka_server_brokermetadatametrics_last_applied_record_offset":                    38,
		"kafka_server_fetchsessioncache_numincrementalfetchsessions":                       3,
		"kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total":            1,
		"kafka_server_socket_server_metrics_connection_count{listener=PLAINTEXT}":          2,
		"kafka_server_socket_server_metrics_connection_creation_total{listener=PLAINTEXT}": 10,
		"rotpeter_connections_closed_total{reason=frame_too_large}":                        3,
		"kafka_network_socketserver_memorypoolavailable":                                   900,
	})
}

func TestDurationBucketsAreExact(t *testing.T) {
	for i := range durationBuckets - 1 {
		limit := time.Duration(durationLimit(i))
		if got := durationBucket(limit); got != i {
			t.Errorf("%d ns is the limit of bucket %d and counts in %d", limit, i, got)
		}
		if got := durationBucket(limit + 1); got != i+1 {
			t.Errorf("%d ns is over the limit of bucket %d and counts in %d", limit+1, i, got)
		}
	}
	if got := durationBucket(math.MaxInt64); got != durationBuckets-1 {
		t.Errorf("the longest duration counts in bucket %d", got)
	}
	if got := durationBucket(0); got != 0 {
		t.Errorf("zero counts in bucket %d", got)
	}
}

func TestDurationsAgreeWithSortedValues(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var d durations
	var values []time.Duration
	for range 20_000 {
		v := time.Duration(math.Exp(random.NormFloat64()*1.5+14)) + 10_000 // around 1 ms
		values = append(values, v)
		d.observe(v)
	}
	slices.Sort(values)
	c := d.counts()
	for _, q := range []float64{0.5, 0.75, 0.95, 0.99, 0.999} {
		near(t, c.quantile(q, new(durationCounts)), float64(values[int(q*float64(len(values)))])/1e6)
	}
	for bound, n := range c.cumulative() {
		want := 0
		for _, v := range values {
			if v.Seconds() <= bound {
				want++
			}
		}
		if n != uint64(want) {
			t.Errorf("%d durations up to %v s, want %d", n, bound, want)
		}
	}
}

func TestQuantilesForgetWhatIsOld(t *testing.T) {
	m := testMetrics(&brokerFacts{})
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := start
	m.now = func() time.Time { return now }
	const median = "kafka_network_requestmetrics_totaltimems{quantile=0.50,request=Produce}"
	for range 1000 {
		m.observe(protocol.Observation{Key: 0, Version: 9, Took: 800 * time.Millisecond})
	}
	for minute := range 12 {
		now = start.Add(time.Duration(minute) * time.Minute)
		m.observe(protocol.Observation{Key: 0, Version: 9, Took: 4 * time.Millisecond})
		got := scrape(t, m)
		if minute < 5 {
			near(t, got[median], 800)
		} else {
			near(t, got[median], 4)
		}
	}
	if n := len(m.window.states); n > 6 {
		t.Errorf("%d states are kept, want at most 6", n)
	}
	now = start.Add(time.Hour)
	scrape(t, m)
	now = start.Add(2 * time.Hour)
	if got := scrape(t, m)[median]; !math.IsNaN(got) {
		t.Errorf("median of an idle hour is %v, want NaN", got)
	}
	if n := scrape(t, m)["kafka_network_requestmetrics_totaltimems_count{request=Produce}"]; n != 1012 {
		t.Errorf("count is %v, want 1012: it never forgets", n)
	}
}

func TestMetricsCostNothingOnTheWay(t *testing.T) {
	m := testMetrics(&brokerFacts{})
	o := protocol.Observation{Key: 0, Version: 9, Took: time.Millisecond, RequestBytes: 10, ResponseBytes: 10}
	m.produced("orders", moved{1, 1, 10})
	if n := testing.AllocsPerRun(100, func() {
		m.observe(o)
		m.produced("orders", moved{1, 1, 10})
		m.fetched("orders", moved{partitions: 1, bytes: 10})
		m.errorCode(0, 3)
		m.wait(delayedProduce, 1)
	}); n != 0 {
		t.Errorf("counting a request makes %v allocations", n)
	}
}

func TestMetricsFromManyGoroutines(t *testing.T) {
	m := testMetrics(&brokerFacts{Topics: []string{"a", "b"}})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				m.produced("a", moved{1, 1, 2})
				m.fetched("b", moved{partitions: 1, bytes: 3})
				m.observe(protocol.Observation{Key: 1, Version: 12, Took: time.Microsecond})
			}
		})
	}
	scrape(t, m)
	wg.Wait()
	scrape(t, m).want(t, map[string]float64{
		"kafka_server_brokertopicmetrics_messagesin_total{topic=a}":             2000,
		"kafka_server_brokertopicmetrics_bytesout_total{topic=b}":               6000,
		"kafka_network_requestmetrics_requests_total{request=Fetch,version=12}": 2000,
		"rotpeter_request_duration_seconds_count{request=Fetch}":                2000,
	})
}

func BenchmarkMetricsOfOneProduce(b *testing.B) {
	m := testMetrics(&brokerFacts{})
	o := protocol.Observation{Key: 0, Version: 9, Took: time.Millisecond, RequestBytes: 10, ResponseBytes: 10}
	b.ReportAllocs()
	for b.Loop() {
		m.observe(o)
		m.produced("orders", moved{1, 1, 10})
	}
}
