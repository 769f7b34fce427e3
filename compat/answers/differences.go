package answers

import (
	"reflect"
	"regexp"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// unordered are the lists whose order means nothing in Kafka: it is that of a
// hash table, or random. They are shown sorted, for both brokers.
var unordered = map[string]bool{
	"AlterReplicaLogDirs Topics":                                      true,
	"AlterReplicaLogDirs Topics.Partitions":                           true,
	"Produce Topics":                                                  true,
	"Produce Topics.Partitions":                                       true,
	"Metadata Topics":                                                 true,
	"Metadata Topics.Partitions":                                      true,
	"DescribeConfigs Resources.Configs":                               true,
	"CreateTopics Topics":                                             true,
	"CreatePartitions Topics":                                         true,
	"DeleteTopics Topics":                                             true,
	"JoinGroup Members":                                               true,
	"ListGroups Groups":                                               true,
	"ListOffsets Topics":                                              true,
	"ListOffsets Topics.Partitions":                                   true,
	"ApiVersions SupportedFeatures":                                   true,
	"ApiVersions FinalizedFeatures":                                   true,
	"OffsetFetch Topics":                                              true, // of a group's all topics: those asked for have an order
	"OffsetFetch Topics.Partitions":                                   true,
	"OffsetFetch Groups.Topics":                                       true,
	"OffsetFetch Groups.Topics.Partitions":                            true,
	"DescribeGroups Groups":                                           true,
	"DescribeGroups Groups.Members":                                   true,
	"DeleteGroups Groups":                                             true,
	"ConsumerGroupHeartbeat Assignment.Topics":                        true,
	"ConsumerGroupDescribe Groups":                                    true,
	"ConsumerGroupDescribe Groups.Members":                            true,
	"ConsumerGroupDescribe Groups.Members.SubscribedTopics":           true,
	"ConsumerGroupDescribe Groups.Members.Assignment.TopicPartitions": true,
	"ConsumerGroupDescribe Groups.Members.TargetAssignment.TopicPartitions": true,
	"DeleteRecords Topics":                   true,
	"DeleteRecords Topics.Partitions":        true,
	"DescribeLogDirs Dirs.Topics":            true,
	"DescribeLogDirs Dirs.Topics.Partitions": true,

	"AddPartitionsToTxn Topics":                                true,
	"AddPartitionsToTxn Topics.Partitions":                     true,
	"AddPartitionsToTxn Transactions":                          true,
	"AddPartitionsToTxn Transactions.Topics":                   true,
	"AddPartitionsToTxn Transactions.Topics.Partitions":        true,
	"DescribeProducers Topics.Partitions.ActiveProducers":      true,
	"DescribeTransactions TransactionStates.Topics":            true,
	"DescribeTransactions TransactionStates.Topics.Partitions": true,
	"ListTransactions TransactionStates":                       true,
	"WriteTxnMarkers Markers":                                  true,
	"WriteTxnMarkers Markers.Topics":                           true,
	"WriteTxnMarkers Markers.Topics.Partitions":                true,
}

// difference is a field or a list in which the two brokers may differ.
type difference struct {
	reason string
	keep   func(item reflect.Value) bool // lists: which items are shown
	show   func(reflect.Value) string    // fields: what is shown instead of the value
}

// shownOtherwise are all legitimate differences between the answers of Kafka
// and ours: API and path of the field -> what is shown of it, and why.
var shownOtherwise = map[string]difference{
	"DescribeConfigs Resources.Configs.Documentation": {
		reason: "our texts about the settings are our own; that there is one is compared",
		show:   someText,
	},
}

// onPurpose are the reasons why single answers of ours are others than Kafka's: in
// the scripts such an answer stands behind Kafka's, with the key of its reason. It
// is compared as exactly as Kafka's.
var onPurpose = map[string]string{
	"unreadable records": "records that do not decompress or have impossible lengths, and codecs that do not exist, are an exception in Kafka and so UNKNOWN_SERVER_ERROR; we say what is wrong, which clients do not retry either",
	"nothing asked":      "neither name nor id is a null pointer in Kafka; we answer INVALID_REQUEST, as other versions do",
	"large expression":   "a regular expression that repeats more than 1000 times in all, or nests deeper than 1000, is refused; Kafka compiles any, and one can use up its memory",
	"unknown partitions": "partitions that do not exist are left out of the assignments of a classic group that becomes one of the consumer protocol; Kafka's assignor fails then",
	"null member":        "a null member id with an epoch is a null pointer in Kafka; we say that there is no such member",
	"null list":          "the decoder of kmsg takes a null list for an empty one where Kafka closes the connection; both create nothing",
	"unserved feature":   "features whose APIs are not served cannot be raised, and their ranges are not told",
	"level 0":            "at level 0 of transaction.version Kafka fails to write down the transactions of newer clients, which hang from then on, and their readers with them; we keep such a transaction in the form that has room for it",
	"older end":          "an end of transaction version 2 that comes with the epoch before, to a transaction that ended by an older version, is of a producer that was fenced; Kafka tells it the epoch of the other",
	"late marker":        "a marker of transaction version 2 needs a new epoch (KIP-1228), or a late one ends the next transaction; Kafka holds to that in all topics but __consumer_offsets",
}

// incompleteBatch is a line of Kafka's answers that ours never have: Kafka fills a
// fetch up to the limit with a part of the next batch, which clients throw away.
// We send whole batches (decision 6).
const incompleteBatch = `(?m)^ *- incomplete batch, \d+ bytes\n`

// expected is the answer that a broker should give to a block.
func expected(b *block, kafka bool) string {
	switch {
	case kafka:
		return b.answer
	case b.reason != "":
		return b.ours
	}
	return regexp.MustCompile(incompleteBatch).ReplaceAllString(b.answer, "")
}

// keptItems are the lists of which only some items are compared.
var keptItems = map[string]difference{
	"ApiVersions ApiKeys": {
		reason: "Kafka has more APIs than we serve so far; the keys that we do serve are compared",
		keep:   func(k reflect.Value) bool { return serves(k.FieldByName("ApiKey").Int()) },
	},
	"ApiVersions SupportedFeatures": {
		reason: "Kafka has features that we do not serve so far: the rest is compared",
		keep:   func(f reflect.Value) bool { return !unserved(f.FieldByName("Name").String()) },
	},
	"ApiVersions FinalizedFeatures": {
		reason: "Kafka has features that we do not serve so far: the rest is compared",
		keep:   func(f reflect.Value) bool { return !unserved(f.FieldByName("Name").String()) },
	},
	"ListConfigResources ConfigResources": {
		reason: "scripts before this one leave groups with settings: this one's own are compared, and all that are no groups",
		keep: func(r reflect.Value) bool {
			return r.FieldByName("Type").Int() != int64(kmsg.ConfigResourceTypeGroupConfig) || strings.HasPrefix(r.FieldByName("Name").String(), "lcr-")
		},
	},
	"DescribeConfigs Resources.Configs": {
		reason: "settings rotpeter.* are our own",
		keep: func(c reflect.Value) bool {
			return !strings.HasPrefix(c.FieldByName("Name").String(), "rotpeter.")
		},
	},
}

// serves tells whether we serve an API as Kafka does.
func serves(key int64) bool {
	switch key {
	case 0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 32, 33, 34, 35, 37, 42, 44, 47, 57,
		60, 61, 65, 66, 68, 69, 74, 75:
		return true
	}
	return false
}

// unserved tells whether a feature (KIP-584) is one of those whose APIs we do not serve.
func unserved(feature string) bool {
	switch feature {
	case "share.version", "streams.version":
		return true
	}
	return false
}

// someText tells only whether there is a text.
func someText(v reflect.Value) string {
	switch {
	case v.IsNil():
		return "null"
	case v.Elem().String() == "":
		return `""`
	}
	return "(a text)"
}

// noneKept tells whether a list is shown as an empty one, because none of its items are compared.
func noneKept(list string, items reflect.Value) bool {
	d, ok := keptItems[list]
	for i := 0; ok && i < items.Len(); i++ {
		ok = !d.keep(items.Index(i))
	}
	return ok
}

// keep tells whether an item of a list is shown: by the table above, and by a
// command's option only, which looks at the name of items of top lists.
func keep(api, at, only string, item reflect.Value) bool {
	if d, ok := keptItems[api+" "+at]; ok && !d.keep(item) {
		return false
	}
	if only == "" || strings.Contains(at, ".") || at == "Brokers" {
		return true
	}
	for i := range item.NumField() {
		f := item.Field(i)
		if f.Kind() == reflect.Pointer && !f.IsNil() {
			f = f.Elem()
		}
		if f.Kind() == reflect.String {
			return strings.HasPrefix(f.String(), only)
		}
	}
	return true
}
