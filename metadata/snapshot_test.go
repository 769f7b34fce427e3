package metadata

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/script"
)

// The record types and their highest versions are those of Kafka 4.3.1
// (MetadataRecordType), whose MetadataRecordSerde read 200 random records of each
// version as AppendRecord writes them, with unknown tagged fields, and wrote the same
// bytes again.
func TestRecordTypes(t *testing.T) {
	want := map[string]int16{
		"REGISTER_BROKER_RECORD": 4, "UNREGISTER_BROKER_RECORD": 0, "TOPIC_RECORD": 0, "PARTITION_RECORD": 2, "CONFIG_RECORD": 0,
		"PARTITION_CHANGE_RECORD": 2, "FENCE_BROKER_RECORD": 0, "UNFENCE_BROKER_RECORD": 0, "REMOVE_TOPIC_RECORD": 0,
		"DELEGATION_TOKEN_RECORD": 0, "USER_SCRAM_CREDENTIAL_RECORD": 0, "FEATURE_LEVEL_RECORD": 0, "CLIENT_QUOTA_RECORD": 0,
		"PRODUCER_IDS_RECORD": 0, "BROKER_REGISTRATION_CHANGE_RECORD": 3, "ACCESS_CONTROL_ENTRY_RECORD": 0,
		"REMOVE_ACCESS_CONTROL_ENTRY_RECORD": 0, "NO_OP_RECORD": 0, "ZK_MIGRATION_STATE_RECORD": 0,
		"REMOVE_USER_SCRAM_CREDENTIAL_RECORD": 0, "BEGIN_TRANSACTION_RECORD": 0, "END_TRANSACTION_RECORD": 0,
		"ABORT_TRANSACTION_RECORD": 0, "REMOVE_DELEGATION_TOKEN_RECORD": 0, "REGISTER_CONTROLLER_RECORD": 0, "CLEAR_ELR_RECORD": 0,
	}
	got := map[string]int16{}
	for _, typ := range allTypes() {
		k, _ := typ.kind()
		got[k.name] = k.max
	}
	if !maps.Equal(got, want) {
		t.Errorf("record types %v, want %v", got, want)
	}
}

// kafkaStep applies records that only Kafka writes so far: all that a snapshot must
// keep whether or not it is acted on.
func (n *node) kafkaStep(rng *rand.Rand) {
	word := func(k int) string { return fmt.Sprintf("w%d", rng.IntN(k)) }
	text := func() *string {
		if rng.IntN(3) == 0 {
			return nil
		}
		s := word(4)
		return &s
	}
	unknown := TaggedFields{{Tag: 200, Value: []byte(word(9))}}
	img := n.s.Image()
	switch rng.IntN(9) {
	case 0:
		n.apply(30, &AccessControlEntryRecord{ID: testID(rng.Uint64N(30)), ResourceName: word(9), Principal: word(3), Host: "*", Operation: 3, PermissionType: 3, PatternType: 3, ResourceType: 2, Unknown: unknown})
	case 1:
		if acls := img.ACLs(); len(acls) > 0 {
			n.apply(30, &RemoveAccessControlEntryRecord{ID: acls[rng.IntN(len(acls))].ID})
		}
	case 2:
		n.apply(30, &UserScramCredentialRecord{Name: word(5), Mechanism: int8(1 + rng.IntN(2)), Salt: []byte{1}, StoredKey: []byte(word(9)), ServerKey: []byte{}, Iterations: 4096})
		n.apply(30, &RemoveUserScramCredentialRecord{Name: word(5), Mechanism: 1})
	case 3, 4:
		q := &ClientQuotaRecord{Entity: []QuotaEntity{{EntityType: "user", EntityName: text()}, {EntityType: "client-id", EntityName: text()}}, Key: word(3), Value: rng.Float64(), Remove: rng.IntN(3) == 0}
		if rng.IntN(2) == 0 {
			slices.Reverse(q.Entity)
		}
		n.apply(30, q)
	case 5:
		n.apply(30, &DelegationTokenRecord{Owner: word(3), Requester: word(3), Renewers: []string{word(3)}, TokenID: word(6), MaxTimestamp: rng.Int64()},
			&RemoveDelegationTokenRecord{TokenID: word(6)})
	case 6:
		n.apply(30, &ConfigRecord{ResourceType: int8([]ResourceType{ResourceBroker, ResourceClientMetrics, ResourceGroup, ResourceTopic}[rng.IntN(4)]), ResourceName: word(3), Name: word(3), Value: text()})
	case 7:
		id := int32(2 + rng.IntN(3))
		n.apply(30, &RegisterBrokerRecord{BrokerID: id, BrokerEpoch: 5, IncarnationID: testID(7), EndPoints: []Endpoint{{Name: word(2), Host: word(2), Port: 9, SecurityProtocol: 3, Unknown: unknown}},
			Features: []FeatureRange{}, Rack: text(), LogDirs: [][16]byte{testID(77)}, CordonedLogDirs: [][16]byte{}, Unknown: unknown},
			&BrokerRegistrationChangeRecord{BrokerID: id, BrokerEpoch: 5, Fenced: int8(rng.IntN(3) - 1), InControlledShutdown: int8(rng.IntN(2))})
		if rng.IntN(3) == 0 {
			n.apply(30, &UnregisterBrokerRecord{BrokerID: id, BrokerEpoch: 5})
		}
	case 8:
		for topic := range img.All() {
			p := &topic.Partitions[rng.IntN(len(topic.Partitions))]
			n.apply(30, &PartitionChangeRecord{TopicID: topic.ID, PartitionID: p.Index, Leader: NoLeader, Isr: []int32{}, EligibleLeaderReplicas: []int32{1}, LastKnownElr: []int32{1}, LeaderRecoveryState: int8(rng.IntN(2))},
				&FeatureLevelRecord{Name: "share.version", FeatureLevel: int16(rng.IntN(2))}, &NoOpRecord{}, &ZkMigrationStateRecord{ZkMigrationState: 1})
			break
		}
	}
}

// snapshot is the image's snapshot, its records and those that came later.
type snapshot struct {
	records [][]byte
	at      int // records of the journal that it stands for
	text    string
}

func (n *node) snapshot() snapshot {
	return snapshot{slices.Collect(n.s.Image().SnapshotRecords()), len(n.journal), dumpImage(n.s.Image())}
}

// loadFrom reads a snapshot and the journal after it.
func (n *node) loadFrom(s snapshot, to int) *Shard {
	n.t.Helper()
	shard := NewShard(n.o)
	for i, b := range slices.Concat(s.records, n.journal[s.at:to]) {
		shard.Apply(coordinator.Record{Value: b})
		if i+1 == len(s.records) {
			if got := dumpImage(shard.Image()); got != s.text {
				n.t.Fatalf("the snapshot differs from its image: %s", script.Difference(s.text, got))
			}
		}
	}
	if shard.Err() != nil {
		n.t.Fatal(shard.Err())
	}
	return shard
}

// A snapshot and the rest of the log make the same image as the whole log, for random
// events of this broker and records of Kafka's; and a snapshot of what a snapshot
// made is the same, byte for byte.
func TestSnapshotEqualsLog(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 21))
			n := newNode(t)
			n.do(Bootstrap{})
			n.do(n.registration(args{}))
			m := model{}
			var taken []snapshot
			for range 200 {
				if rng.IntN(2) == 0 {
					n.step(rng, m)
				} else {
					n.kafkaStep(rng)
				}
				if rng.IntN(20) == 0 {
					taken = append(taken, n.snapshot())
				}
			}
			want := dumpImage(n.s.Image())
			for _, s := range taken {
				shard := n.loadFrom(s, len(n.journal))
				if got := dumpImage(shard.Image()); got != want {
					t.Fatalf("from the snapshot at %d: %s", s.at, script.Difference(want, got))
				}
				again := slices.Collect(n.loadFrom(s, s.at).Image().SnapshotRecords())
				if !slices.EqualFunc(again, s.records, bytes.Equal) {
					t.Fatalf("the snapshot of the snapshot at %d is another one", s.at)
				}
			}
			n.checkLoad()
			for _, part := range []string{"CONTROL_ENTRY", "SCRAM", "QUOTA", "TOKEN"} {
				if strings.Contains(want, part) {
					seen[part] = true
				}
			}
		})
	}
	if len(seen) != 4 {
		t.Errorf("at the ends there were only %v", seen)
	}
}

// Inside a transaction the image is that before it, and so is its snapshot; what an
// aborted transaction did to ACLs and the like is undone.
func TestSnapshotInsideTransaction(t *testing.T) {
	n := newNode(t)
	n.do(Bootstrap{})
	n.apply(30, &AccessControlEntryRecord{ID: testID(1), Principal: "User:a"}, &UserScramCredentialRecord{Name: "u", Mechanism: 1})
	before := n.snapshot()
	n.apply(30, &BeginTransactionRecord{}, &RemoveAccessControlEntryRecord{ID: testID(1)}, &AccessControlEntryRecord{ID: testID(2)},
		&RemoveUserScramCredentialRecord{Name: "u", Mechanism: 1}, &ClientQuotaRecord{Key: "k"}, &DelegationTokenRecord{TokenID: "t"})
	if !n.s.InTransaction() || !slices.EqualFunc(n.snapshot().records, before.records, bytes.Equal) {
		t.Error("the transaction shows before its end")
	}
	n.apply(30, &AbortTransactionRecord{})
	if n.s.InTransaction() || !slices.EqualFunc(n.snapshot().records, before.records, bytes.Equal) {
		t.Error("the aborted transaction left traces")
	}
	if n.s.Apply(coordinator.Record{Value: AppendRecord(nil, &AccessControlEntryRecord{ID: testID(3)}, 0)}); len(n.s.Image().ACLs()) != 2 {
		t.Errorf("ACLs %v", n.s.Image().ACLs())
	}
}

// At every level of metadata.version a snapshot is written in record versions that
// this level has.
func TestSnapshotAtOlderLevels(t *testing.T) {
	for level := int16(7); level <= 30; level++ {
		n := newNode(t)
		n.apply(level, &FeatureLevelRecord{Name: FeatureMetadataVersion, FeatureLevel: level},
			&RegisterBrokerRecord{BrokerID: 1, BrokerEpoch: 3, EndPoints: []Endpoint{}, Features: []FeatureRange{}},
			&TopicRecord{Name: "t", TopicID: testID(50)},
			&PartitionRecord{TopicID: testID(50), Replicas: []int32{1}, Isr: []int32{1}, Leader: 1, LeaderEpoch: 4, PartitionEpoch: 5})
		s := n.snapshot()
		if got := dumpImage(n.loadFrom(s, s.at).Image()); got != s.text {
			t.Errorf("level %d: %s", level, script.Difference(s.text, got))
		}
		for i, b := range s.records {
			want := [][]byte{{1, 12, 0}, {1, 0, byte(recordVersion(&RegisterBrokerRecord{}, level))}, {1, 2, 0}, {1, 3, byte(recordVersion(&PartitionRecord{}, level))}}[i]
			if !bytes.HasPrefix(b, want) {
				t.Errorf("level %d: record %d is %x, want %x", level, i, b, want)
			}
		}
	}
}

// What bootstrap.checkpoint holds is the beginning of an empty log, as it is; records
// that do not fit do not get in.
func TestBootstrapRecords(t *testing.T) {
	encode := func(ms ...Message) (rs [][]byte) {
		for _, m := range ms {
			rs = append(rs, AppendRecord(nil, m, 0))
		}
		return rs
	}
	level := func(n int16) Message { return &FeatureLevelRecord{Name: FeatureMetadataVersion, FeatureLevel: n} }
	scram := &UserScramCredentialRecord{Name: "alice", Mechanism: 1, Salt: []byte{1}, StoredKey: []byte{2}, ServerKey: []byte{3}, Iterations: 4096}
	n := newNode(t)
	if r := n.ask(Bootstrap{Records: encode(level(30), &FeatureLevelRecord{Name: "transaction.version", FeatureLevel: 1}, scram)}).(Bootstrapped); !r.Fresh {
		t.Errorf("%+v", r)
	}
	img := n.s.Image()
	if len(img.ScramCredentials()) != 1 || img.Feature("transaction.version") != 1 || img.Feature("group.version") != 0 || img.ClusterConfigs() != nil || len(n.journal) != 5 {
		t.Errorf("%d records: %s", len(n.journal), dumpImage(img))
	}
	n.checkLoad()
	if n.do(Bootstrap{Err: fmt.Errorf("damaged")}); len(n.journal) != 5 {
		t.Error("a log with a beginning was begun again")
	}

	old := newNode(t) // before transactions
	if old.do(Bootstrap{Records: encode(level(12))}); len(old.journal) != 1 || old.s.Image().Feature(FeatureMetadataVersion) != 12 {
		t.Errorf("%d records", len(old.journal))
	}
	for name, c := range map[string]struct {
		b    Bootstrap
		want string
	}{
		"damaged":     {Bootstrap{Err: fmt.Errorf("damaged file")}, "damaged file"},
		"no version":  {Bootstrap{Records: encode(scram)}, "no FeatureLevelRecord for metadata.version"},
		"newer":       {Bootstrap{Records: encode(level(31))}, "levels 7 to 30"},
		"not records": {Bootstrap{Records: [][]byte{{1, 99, 0}}}, "unknown metadata record"},
	} {
		n := newNode(t)
		u, ok := n.ask(c.b).(Unreadable)
		if !ok || !strings.Contains(u.Error(), c.want) || len(n.journal) != 0 || len(n.s.Image().Features()) != 0 {
			t.Errorf("%s: %v, %d records", name, u, len(n.journal))
		}
	}
}

// The voters are what the last control records say, and are said again as they were.
func TestQuorum(t *testing.T) {
	var q Quorum
	if q.Check(1) != nil || q.ControlRecords() != nil {
		t.Error("static voters")
	}
	voters := &KRaftVoters{Voters: []KRaftVoter{{ID: 1, DirectoryID: testID(5), Endpoints: []VoterEndpoint{{"CONTROLLER", "h", 9093}}, MaxSupportedVersion: 1}}}
	value := voters.AppendTo(nil)
	value = append(value[:len(value)-1], 1, 50, 1, 7) // with a tagged field of a later version
	for _, c := range []ControlRecord{{ControlLeaderChange, []byte{1}}, {ControlKRaftVersion, (&KRaftVersion{KRaftVersion: 1}).AppendTo(nil)}} {
		if err := q.Apply(c.Type, c.Value); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Check(1); err == nil || !strings.Contains(err.Error(), "names the voters") {
		t.Errorf("no voters: %v", err)
	}
	if err := q.Apply(ControlKRaftVoters, value); err != nil || q.Check(1) != nil {
		t.Fatal(err, q.Check(1))
	}
	if err := q.Check(2); err == nil || !strings.Contains(err.Error(), "[1]") {
		t.Errorf("another node: %v", err)
	}
	rs := q.ControlRecords()
	if len(rs) != 2 || rs[0].Type != ControlKRaftVersion || !bytes.Equal(rs[1].Value, value) {
		t.Errorf("control records %+v", rs)
	}
	if err := q.Apply(ControlKRaftVersion, (&KRaftVersion{KRaftVersion: 2}).AppendTo(nil)); err == nil || !strings.Contains(err.Error(), "kraft.version is supported at levels 0 to 1") {
		t.Errorf("kraft.version 2: %v", err)
	}
	if q.Apply(ControlKRaftVoters, value[:5]) == nil || q.Apply(ControlKRaftVersion, nil) == nil {
		t.Error("cut off records are accepted")
	}
}

// inOrder sorts the lists in a record whose order Kafka takes from a hash table.
func inOrder(t *testing.T, b []byte) []byte {
	m, version, err := DecodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	byName := func(a, b FeatureRange) int { return strings.Compare(a.Name, b.Name) }
	switch m := m.(type) {
	case *RegisterBrokerRecord:
		slices.SortFunc(m.Features, byName)
	case *RegisterControllerRecord:
		slices.SortFunc(m.Features, byName)
	case *ClientQuotaRecord:
		slices.SortFunc(m.Entity, func(a, b QuotaEntity) int { return strings.Compare(a.EntityType, b.EntityType) })
	}
	return AppendRecord(nil, m, version)
}

// What we would put into a snapshot is what Kafka 4.3.1 put into its own at the same
// offset, byte for byte; only the order inside a kind is another where Kafka's is that
// of a hash table. The log was begun by this broker on a directory that kafka-storage
// had formatted, with a SCRAM user and transaction.version 1, and filled by Kafka's
// clients.
func TestSnapshotsAsKafkaMakesThem(t *testing.T) {
	records := readSegment(t, "testdata/kafka-4.3.1-filled.log")
	for _, end := range []int64{38, 58, 79, 226} {
		s := NewShard(ShardOptions{ClusterID: "c", NodeID: 1})
		var q Quorum
		for _, r := range records {
			switch {
			case r.offset >= end:
			case r.control:
				kind, err := DecodeControlKey(r.key)
				if err == nil {
					err = q.Apply(kind, r.value)
				}
				if err != nil {
					t.Fatal(err)
				}
			default:
				s.Apply(coordinator.Record{Value: r.value})
			}
		}
		if s.Err() != nil {
			t.Fatal(s.Err())
		}
		var want [][]byte
		var control []ControlRecord
		for _, r := range readSegment(t, fmt.Sprintf("testdata/kafka-4.3.1-filled-%d.checkpoint", end)) {
			if !r.control {
				want = append(want, r.value)
			} else if kind, err := DecodeControlKey(r.key); err == nil && kind != ControlSnapshotHeader && kind != ControlSnapshotFooter {
				control = append(control, ControlRecord{kind, r.value})
			}
		}
		got := slices.Collect(s.Image().SnapshotRecords())
		kinds := func(rs [][]byte) (ts []RecordType) {
			for _, r := range rs {
				m, _, err := DecodeRecord(r)
				if err != nil {
					t.Fatal(err)
				}
				if typ := m.Type(); typ != TypePartition && typ != TypeTopic { // each topic has its partitions behind it
					ts = append(ts, typ)
				}
			}
			return ts
		}
		if g, w := kinds(got), kinds(want); !slices.Equal(g, w) {
			t.Errorf("offset %d: kinds\n%v, Kafka has\n%v", end, g, w)
		}
		for _, rs := range [][][]byte{got, want} {
			for i := range rs {
				rs[i] = inOrder(t, rs[i])
			}
			slices.SortFunc(rs, bytes.Compare)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || !bytes.Equal(got[i], want[i]) {
					t.Errorf("offset %d: %d records, Kafka has %d; sorted record %d", end, len(got), len(want), i)
					if i < len(got) && i < len(want) {
						t.Errorf("ours   %s\nKafka's %s", dumpRecord(t, got[i]), dumpRecord(t, want[i]))
					}
					break
				}
			}
		}
		if g := q.ControlRecords(); !slices.EqualFunc(g, control, func(a, b ControlRecord) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) }) {
			t.Errorf("offset %d: control records %+v, Kafka has %+v", end, g, control)
		}
	}
}
