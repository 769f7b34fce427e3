package metadata

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

var timeZero = time.Time{}

// The hashes are those of java.lang.String.
func TestPartitionFor(t *testing.T) {
	for _, c := range []struct {
		key  string
		hash int32
		part int32 // of 50
	}{
		{"", 0, 0},
		{"abc", 96354, 4},
		{"my-group", -1906497762, 12},
		{"polygenelubricants", -2147483648, 0}, // no positive counterpart
		{"Aa", 2112, 12},
		{"BB", 2112, 12},
		{"größe", 98762257, 7},
		{"\U0001F600", 1772899, 49}, // two UTF-16 units
		{"g:AAAAAAAAAAAAAAAAAAAAAQ:3", -92966820, 20},
	} {
		if got := javaHash(c.key); got != c.hash {
			t.Errorf("hash of %q is %d, want %d", c.key, got, c.hash)
		}
		if got := PartitionFor(c.key, 50); got != c.part {
			t.Errorf("partition of %q is %d, want %d", c.key, got, c.part)
		}
	}
}

func TestTopicNames(t *testing.T) {
	for name, want := range map[string]string{
		"a":                      "",
		"A.b_c-9":                "",
		strings.Repeat("x", 249): "",
		"":                       "Topic name is invalid: the empty string is not allowed",
		".":                      "Topic name is invalid: '.' is not allowed",
		"..":                     "Topic name is invalid: '..' is not allowed",
		"...":                    "",
		"a b":                    "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
		"a/b":                    "Topic name is invalid: 'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
		strings.Repeat("y", 250): "Topic name is invalid: the length of '" + strings.Repeat("y", 250) + "' is longer than the max allowed length 249",
		strings.Repeat("é", 249): "Topic name is invalid: '" + strings.Repeat("é", 249) + "' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
	} {
		if got := InvalidTopicName(name); got != want {
			t.Errorf("%.20q: %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]bool{
		"__consumer_offsets": true, "__transaction_state": true, "__share_group_state": true,
		"__cluster_metadata": false, "__other": false, "orders": false,
	} {
		if Internal(name) != want {
			t.Errorf("Internal(%s) is %v", name, !want)
		}
	}
}

func TestUUIDs(t *testing.T) {
	for text, id := range map[string][16]byte{
		"AAAAAAAAAAAAAAAAAAAAAA": {},
		"AAAAAAAAAAAAAAAAAAAAAQ": ClusterMetadataTopicID,
		"_____________________w": {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
	} {
		if got := UUIDString(id); got != text {
			t.Errorf("%v is %s, want %s", id, got, text)
		}
		for _, s := range []string{text, text + "=="} {
			if got, err := ParseUUID(s); err != nil || got != id {
				t.Errorf("ParseUUID(%s) = %v, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAA+", strings.Repeat("A", 23), strings.Repeat("A", 2000)} {
		if _, err := ParseUUID(s); err == nil {
			t.Errorf("%.30q is taken", s)
		}
	}
	if id := RandomUUID([16]byte{255, 1, 2, 3, 4, 5, 255, 7, 255}); id[6]>>4 != 4 || id[8]>>6 != 2 {
		t.Errorf("%x is not of version 4", id)
	}
	for id, want := range map[[16]byte][2]bool{
		{}:           {false, false},
		{15: 1}:      {false, false},
		{15: 2}:      {true, false},
		{15: 99}:     {true, false},
		{15: 100}:    {true, true},
		{0: 0xf8}:    {false, false},
		{0: 0xfb}:    {false, false},
		{0: 0xfc}:    {true, true},
		{0: 0xf7}:    {true, true},
		{7: 1}:       {true, true},
		{8: 1, 1: 0}: {true, true},
	} {
		if UsableUUID(id) != want[0] || UsableDirectoryID(id) != want[1] {
			t.Errorf("%s: %v %v, want %v", UUIDString(id), UsableUUID(id), UsableDirectoryID(id), want)
		}
		if strings.HasPrefix(UUIDString(id), "-") && UsableUUID(id) {
			t.Errorf("%s begins with -", UUIDString(id))
		}
	}
}

// The first text is what kafka-storage format of 4.3.1 wrote.
func TestMetaProperties(t *testing.T) {
	dir, _ := ParseUUID("IQ8c8SutnDXPCONdGVUDRQ")
	want := MetaProperties{ClusterID: "4L6g3nShT-eMCtK--X86sw", NodeID: 1, DirectoryID: dir}
	text := "#\n#Tue Nov 24 04:25:14 UTC 2026\nnode.id=1\ndirectory.id=IQ8c8SutnDXPCONdGVUDRQ\nversion=1\ncluster.id=4L6g3nShT-eMCtK--X86sw\n"
	if got := string(want.Format(time.Date(2026, 11, 24, 4, 25, 14, 0, time.UTC))); got != text {
		t.Errorf("formatted\n%s, want\n%s", got, text)
	}
	for _, s := range []string{
		text,
		strings.ReplaceAll(text, "\n", "\r\n"),
		"version:1\n  cluster.id = 4L6g3nShT\\\n   -eMCtK--X86sw\nnode.id 1\n! x\ndirectory.id=IQ8c8SutnDXPCONdGVUDRQ\nother=\\u0041",
	} {
		if got, err := ParseMetaProperties([]byte(s)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	odd := MetaProperties{ClusterID: " a=b:c#d!e\\f\té\U0001F600", NodeID: 7}
	if got, err := ParseMetaProperties(odd.Format(timeZero)); err != nil || got.NodeID != 7 || !strings.HasPrefix(got.ClusterID, " a=b:c#d!e\\f\té") {
		t.Errorf("%+v, %v", got, err)
	}
	for s, why := range map[string]string{
		"":                                    "version",
		"version=0\nbroker.id=1":              "version",
		"version=2\ncluster.id=x\nnode.id=1":  "version",
		"version=1\nnode.id=1":                "cluster.id",
		"version=1\ncluster.id=x":             "node.id",
		"version=1\ncluster.id=x\nnode.id=-1": "node.id",
		"version=1\ncluster.id=x\nnode.id=a":  "node.id",
		"version=1\ncluster.id=x\nnode.id=1\ndirectory.id=zz": "directory.id",
		strings.Repeat("#", 70000):                            "bytes",
	} {
		if _, err := ParseMetaProperties([]byte(s)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.40q: %v, want something about %s", s, err, why)
		}
	}
}

// The texts are what a running 4.3.1 wrote, with static and with dynamic voters.
func TestQuorumState(t *testing.T) {
	for text, want := range map[string]QuorumState{
		`{"clusterId":"","leaderId":1,"leaderEpoch":3,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}`: {LeaderID: 1, LeaderEpoch: 3, VotedID: -1, CurrentVoters: []int32{1}},
		`{"leaderId":1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}`:                      {DataVersion: 1, LeaderID: 1, LeaderEpoch: 1, VotedID: -1},
	} {
		if got := want.Format(); !bytes.Equal(got, []byte(text)) {
			t.Errorf("formatted %s, want %s", got, text)
		}
		if got, err := ParseQuorumState([]byte(text + "\n{")); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("parsed %+v, %v", got, err)
		}
	}
	for _, s := range []string{"", "{", "[]", `{"leaderId":1}`, `{"data_version":2}`, `{"data_version":-1}`, `{"data_version":0,"leaderId":"x"}`, `{"data_version":1,"votedDirectoryId":"x"}`, strings.Repeat(" ", 70000)} {
		if q, err := ParseQuorumState([]byte(s)); err == nil {
			t.Errorf("%.40q: %+v", s, q)
		}
	}
}

// The levels that a fresh log finalizes are in the table, and written in Kafka's order.
func TestFreshFeatures(t *testing.T) {
	var names []string
	for _, r := range FreshFeatureRecords(Features()) {
		names = append(names, r.Name)
	}
	want := []string{"metadata.version", "eligible.leader.replicas.version", "group.version", "share.version", "streams.version", "transaction.version"}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
}

// Each level of metadata.version gets the record versions of its Kafka
// (MetadataVersion.java).
func TestRecordVersions(t *testing.T) {
	for _, c := range []struct{ level, broker, partition int16 }{
		{7, 1, 0}, {8, 2, 0}, {14, 2, 0}, {17, 3, 1}, {22, 3, 1}, {23, 3, 2}, {29, 3, 2}, {30, 4, 2},
	} {
		if v := recordVersion(&RegisterBrokerRecord{}, c.level); v != c.broker {
			t.Errorf("level %d: RegisterBroker %d, want %d", c.level, v, c.broker)
		}
		for _, m := range []Message{&PartitionRecord{}, &PartitionChangeRecord{}} {
			if v := recordVersion(m, c.level); v != c.partition {
				t.Errorf("level %d: %s %d, want %d", c.level, m.Type(), v, c.partition)
			}
		}
	}
	for _, c := range []struct {
		m    BrokerRegistrationChangeRecord
		want int16
	}{
		{BrokerRegistrationChangeRecord{Fenced: 1}, 0},
		{BrokerRegistrationChangeRecord{InControlledShutdown: 1}, 1},
		{BrokerRegistrationChangeRecord{LogDirs: [][16]byte{{}}}, 2},
		{BrokerRegistrationChangeRecord{CordonedLogDirs: [][16]byte{}}, 3},
	} {
		if v := recordVersion(&c.m, 30); v != c.want {
			t.Errorf("%+v: version %d, want %d", c.m, v, c.want)
		}
	}
}
