package metadata

import (
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
)

// alter hands one change to a shard and applies what it decided.
func alter(t *testing.T, s *Shard, a AlterConfigs) ([]Failure, int) {
	t.Helper()
	res := s.Handle(time.Time{}, coordinator.Event{Token: "t", Body: a})
	for _, r := range res.Records {
		s.Apply(r)
	}
	if s.Err() != nil || len(res.Replies) != 1 {
		t.Fatalf("%v, %d replies", s.Err(), len(res.Replies))
	}
	return res.Replies[0].Body.(ConfigsAltered).Results, len(res.Records)
}

func text(s string) *string { return &s }

func TestAlterConfigs(t *testing.T) {
	group := Resource{ResourceGroup, "g"}
	s := NewShard(ShardOptions{NodeID: 1, Configs: ConfigRules{
		List: func(r Resource, name string) (string, bool) { return "delete", name == "list" },
		Validate: func(r Resource, configs map[string]string) Failure {
			if configs["a"] == "bad" {
				return fail(kerr.InvalidConfig, "bad")
			}
			return Failure{}
		},
	}})
	for _, step := range []struct {
		name    string
		changes []ConfigChange
		replace bool
		only    bool
		code    int16
		records int
		want    map[string]string
	}{
		{"set", []ConfigChange{{"a", ConfigSet, text("1")}, {"b", ConfigSet, text("2")}}, false, false, 0, 2, map[string]string{"a": "1", "b": "2"}},
		{"the same again writes nothing", []ConfigChange{{"a", ConfigSet, text("1")}, {"none", ConfigDelete, nil}}, false, false, 0, 0, map[string]string{"a": "1", "b": "2"}},
		{"all or nothing", []ConfigChange{{"b", ConfigSet, text("3")}, {"a", ConfigSet, text("bad")}}, false, false, kerr.InvalidConfig.Code, 0, map[string]string{"a": "1", "b": "2"}},
		{"validate only", []ConfigChange{{"b", ConfigSet, text("3")}}, false, true, 0, 0, map[string]string{"a": "1", "b": "2"}},
		{"delete", []ConfigChange{{"b", ConfigDelete, nil}}, false, false, 0, 1, map[string]string{"a": "1"}},
		{"append to the default", []ConfigChange{{"list", ConfigAppend, text("compact,delete")}}, false, false, 0, 1, map[string]string{"a": "1", "list": "delete,compact"}},
		{"subtract", []ConfigChange{{"list", ConfigSubtract, text("delete,none")}}, false, false, 0, 1, map[string]string{"a": "1", "list": "compact"}},
		{"append to what is no list", []ConfigChange{{"a", ConfigAppend, text("x")}}, false, false, kerr.InvalidConfig.Code, 0, map[string]string{"a": "1", "list": "compact"}},
		{"replace", []ConfigChange{{"c", ConfigSet, text("9")}}, true, false, 0, 3, map[string]string{"c": "9"}},
		{"too long", []ConfigChange{{"c", ConfigSet, text(string(make([]byte, 32768)))}}, false, false, kerr.InvalidConfig.Code, 0, map[string]string{"c": "9"}},
	} {
		results, records := alter(t, s, AlterConfigs{ValidateOnly: step.only, Resources: []ResourceChange{{group, step.replace, step.changes}}})
		if results[0].Code != step.code || records != step.records {
			t.Errorf("%s: code %d and %d records, want %d and %d", step.name, results[0].Code, records, step.code, step.records)
		}
		if got := s.Image().Configs(group); !maps.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
	}
	results, _ := alter(t, s, AlterConfigs{Resources: []ResourceChange{{Resource{ResourceTopic, "none"}, false, nil}}})
	if results[0].Code != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("a topic that does not exist: %+v", results[0])
	}
}
