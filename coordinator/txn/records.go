package txn

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
)

// transactionKey is the type of the one kind of record (Kafka's coordinator.transaction.generated.CoordinatorRecordType).
const transactionKey = 0

// Versions of the value. The second one has tagged fields.
const (
	plainValue    = 0
	flexibleValue = 1
)

// flexibleSince is the level of transaction.version from which on values have tagged fields.
const flexibleSince = 1

func key(id string) []byte {
	k := kmsg.NewTxnMetadataKey()
	k.Version, k.TransactionalID = transactionKey, id
	return k.AppendTo(nil)
}

// readKey decodes a key. known is false where the record is of a kind of a newer Kafka.
func readKey(b []byte) (id string, known, ok bool) {
	if len(b) < 2 {
		return "", false, false
	}
	if binary.BigEndian.Uint16(b) != transactionKey {
		return "", false, true
	}
	k := kmsg.NewTxnMetadataKey()
	if err := k.ReadFrom(b); err != nil {
		return "", true, false
	}
	return k.TransactionalID, true, true
}

// record encodes a transaction. level is the finalized level of transaction.version. A newer client's transaction has
// more to remember than the older value has room for, whatever the level: Kafka fails there, and the transaction hangs.
func (t *transaction) record(level int16) coordinator.Record {
	v := kmsg.NewTxnMetadataValue()
	if v.Version = plainValue; level >= flexibleSince || t.version >= epochBumpSince {
		v.Version = flexibleValue
	}
	v.ProducerID, v.PreviousProducerID, v.NextProducerID, v.ProducerEpoch = t.producerID, t.previousID, t.nextID, t.epoch
	v.TimeoutMillis, v.State = t.timeoutMillis, kmsg.TransactionState(t.state)
	v.LastUpdateTimestamp, v.StartTimestamp, v.ClientTransactionVersion = t.updated, t.started, t.version
	if t.state != Empty {
		v.Topics = []kmsg.TxnMetadataValueTopic{}
	}
	for _, p := range t.list() {
		if n := len(v.Topics); n == 0 || v.Topics[n-1].Topic != p.Topic {
			topic := kmsg.NewTxnMetadataValueTopic()
			topic.Topic = p.Topic
			v.Topics = append(v.Topics, topic)
		}
		topic := &v.Topics[len(v.Topics)-1]
		topic.Partitions = append(topic.Partitions, p.Index)
	}
	return coordinator.Record{Key: key(t.id), Value: v.AppendTo(nil), Timestamp: t.updated}
}

// plain tells that a value has no tagged fields.
func plain(value []byte) bool { return binary.BigEndian.Uint16(value) == plainValue }

// whole tells that a value with tagged fields has as many as it says. kmsg counts on in vain where the bytes end before.
func whole(value []byte) bool {
	r := kbin.Reader{Src: value}
	tags := func() {
		for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
			r.Uvarint()
			r.Span(int(r.Uvarint()))
		}
	}
	r.Span(2 + 8 + 2 + 4 + 1) // up to the state
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		r.CompactString()
		for m := r.CompactArrayLen(); m > 0 && r.Ok(); m-- {
			r.Int32()
		}
		tags()
	}
	r.Span(8 + 8) // the times
	tags()
	return r.Ok()
}

// read decodes a value.
func read(id string, b []byte) (*transaction, bool) {
	v := kmsg.NewTxnMetadataValue()
	if len(b) < 2 || !plain(b) && (binary.BigEndian.Uint16(b) != flexibleValue || !whole(b)) {
		return nil, false
	}
	if err := v.ReadFrom(b); err != nil || v.Version < plainValue || v.Version > flexibleValue {
		return nil, false
	}
	t := &transaction{
		id: id, producerID: v.ProducerID, previousID: v.PreviousProducerID, nextID: v.NextProducerID, epoch: v.ProducerEpoch, previousEpoch: noEpoch,
		timeoutMillis: v.TimeoutMillis, state: State(v.State), started: v.StartTimestamp, updated: v.LastUpdateTimestamp, version: v.ClientTransactionVersion,
	}
	if t.state < Empty || t.state > CompleteAbort {
		return nil, false
	}
	if t.state == Empty {
		v.Topics = nil // Kafka does not read them either
	}
	for i := range v.Topics {
		for _, p := range v.Topics[i].Partitions {
			if t.partitions == nil {
				t.partitions = map[Partition]bool{}
			}
			t.partitions[Partition{v.Topics[i].Topic, p}] = true
		}
	}
	return t, true
}
