package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
)

func TestMetricsOfTransactionFacts(t *testing.T) {
	m := testMetrics(&brokerFacts{Transactions: transactionFacts{Producers: 7, LateLogs: 2, Late: 3, VerificationFailures: 4, Markers: 5, MarkersFailed: 6}})
	m.transactions.verified(100*time.Millisecond, []int16{0, 0})
	scrape(t, m).want(t, map[string]float64{
		"kafka_server_replicamanager_produceridcount":                                               7,
		"kafka_server_replicamanager_partitionswithlatetransactionscount":                           2,
		"kafka_coordinator_transaction_transactionmarkerchannelmanager_unknowndestinationqueuesize": 6,
		"kafka_coordinator_transaction_transactionmarkerchannelmanager_logappendretryqueuesize":     0,
		"kafka_server_addpartitionstotxnmanager_verificationfailurerate_count":                      4,
		"kafka_server_addpartitionstotxnmanager_verificationtimems_count":                           1,
		"rotpeter_transactions_markers_pending":                                                     5,
		"rotpeter_transactions_late_requests_total":                                                 3,
	})
}

// The metrics of transactions say what happens to them.
func TestMetricsOfTransactions(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.makeX()
		cl := h.txnProducer()
		defer cl.Close()
		if err := writeTxn(h.t.Context(), cl, 1); err != nil {
			h.t.Fatal(err)
		}
		// In each partition of the topic, and where the group's offsets are.
		scrape(h.t, h.b.metrics).want(h.t, map[string]float64{
			"kafka_server_replicamanager_produceridcount":                          txnPartitions + 1,
			"kafka_server_replicamanager_partitionswithlatetransactionscount":      0,
			"kafka_server_addpartitionstotxnmanager_verificationfailurerate_count": 0,
		})
		if n := scrape(h.t, h.b.metrics)["kafka_server_addpartitionstotxnmanager_verificationtimems_count"]; n < 2 {
			h.t.Errorf("%v questions to a coordinator", n)
		}
		if err := cl.EndTransaction(h.t.Context(), kgo.TryCommit); err != nil {
			h.t.Fatal(err)
		}
		synctest.Wait()
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.Group, req.ProducerID = "t", "another", 4711
		rt, rp := kmsg.NewTxnOffsetCommitRequestTopic(), kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rt.Topic, rt.Partitions = "x", append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := h.raw().call(req, 5)
		if err != nil {
			h.t.Fatal(err)
		}
		if code := resp.(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; code != kerr.InvalidProducerIDMapping.Code {
			h.t.Errorf("a producer that nobody knows: %d", code)
		}
		// One that hangs: nobody will end it.
		x := h.b.image().Topic("x")
		l, err := h.b.parts.get(x, 0)
		if err != nil {
			h.t.Fatal(err)
		}
		o := batch.Plain()
		o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 4711, 0, 0, true
		raw := batch.Append(nil, o, []batch.Message{{Timestamp: time.Now().UnixMilli(), Value: []byte("x")}})
		if _, err := l.Append(time.Now(), raw, log.AppendOptions{Origin: log.Client, Verified: true}); err != nil {
			h.t.Fatal(err)
		}
		time.Sleep(20*time.Minute - time.Second)
		late := "kafka_server_replicamanager_partitionswithlatetransactionscount"
		scrape(h.t, h.b.metrics).want(h.t, map[string]float64{
			late: 0, "rotpeter_transactions_markers_pending": 0, "kafka_server_addpartitionstotxnmanager_verificationfailurerate_count": 1,
		})
		time.Sleep(2 * time.Second)
		scrape(h.t, h.b.metrics).want(h.t, map[string]float64{late: 1})
	})
}
