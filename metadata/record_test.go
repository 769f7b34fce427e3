package metadata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/rotpeter/rotpeter/coordinator"
)

// The files were written by a running Apache Kafka 4.3.1, the .json beside them by
// its kafka-dump-log --cluster-metadata-decoder.
var realLogs = []string{"kafka-4.3.1-static.log", "kafka-4.3.1-dynamic.log", "kafka-4.3.1-bootstrap.checkpoint"}

// allTypes lists the record types there are.
func allTypes() []RecordType {
	var ts []RecordType
	for t := RecordType(0); t < 64; t++ {
		if _, ok := t.kind(); ok {
			ts = append(ts, t)
		}
	}
	return ts
}

// Every record of a real log decodes to what Kafka says it means, and encodes to
// the bytes that Kafka wrote.
func TestRealLogs(t *testing.T) {
	for _, name := range realLogs {
		t.Run(name, func(t *testing.T) {
			records := readSegment(t, "testdata/"+name)
			text, err := os.ReadFile("testdata/" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			if len(lines) != len(records) {
				t.Fatalf("%d lines for %d records", len(lines), len(records))
			}
			for i, r := range records {
				offset, rest, _ := strings.Cut(lines[i], " ")
				if offset != fmt.Sprint(r.offset) {
					t.Fatalf("line %d is about offset %s, want %d", i, offset, r.offset)
				}
				kind, body, _ := strings.Cut(rest, " ")
				if r.control {
					checkControl(t, r, strings.TrimSuffix(kind, ":"), body)
				} else {
					checkRecord(t, r, body)
				}
			}
		})
	}
}

func checkRecord(t *testing.T, r logRecord, body string) {
	t.Helper()
	var want struct {
		Type    string
		Version int16
		Data    map[string]any
	}
	if err := json.Unmarshal([]byte(body), &want); err != nil {
		t.Fatal(err)
	}
	m, version, err := DecodeRecord(r.value)
	if err != nil {
		t.Fatalf("offset %d: %v", r.offset, err)
	}
	if m.Type().String() != want.Type || version != want.Version {
		t.Errorf("offset %d: %s version %d, want %s version %d", r.offset, m.Type(), version, want.Type, want.Version)
	}
	if r.key != nil {
		t.Errorf("offset %d: the key is not null", r.offset)
	}
	compareJSON(t, fmt.Sprintf("offset %d %s", r.offset, want.Type), reflect.ValueOf(m).Elem(), want.Data)
	if again := AppendRecord(nil, m, version); !bytes.Equal(again, r.value) {
		t.Errorf("offset %d: encoded as\n%x, Kafka wrote\n%x", r.offset, again, r.value)
	}
	checkFields(t, m)
}

// checkFields holds the record version that we would choose against Kafka's.
func checkFields(t *testing.T, m Message) {
	t.Helper()
	if k, _ := m.Type().kind(); recordVersion(m, 30) > k.max {
		t.Errorf("%s is written in version %d, the highest is %d", k.name, recordVersion(m, 30), k.max)
	}
}

// compareJSON compares a message with Kafka's JSON, which leaves out tagged fields
// that have their default.
func compareJSON(t *testing.T, where string, v reflect.Value, want map[string]any) {
	t.Helper()
	defaults := map[string]any{}
	if v.Type() == reflect.TypeFor[PartitionChangeRecord]() {
		defaults["leader"], defaults["leaderRecoveryState"] = float64(NoLeaderChange), float64(noRecoveryChange)
	}
	seen := 0
	got := jsonValue(v).(map[string]any)
	for name, value := range got {
		w, there := want[name]
		if there {
			seen++
			if !reflect.DeepEqual(value, w) {
				t.Errorf("%s: %s is %v, want %v", where, name, value, w)
			}
			continue
		}
		if d, ok := defaults[name]; ok && value == d {
			continue
		}
		if list, ok := value.([]any); ok && len(list) == 0 || value == nil || value == float64(0) {
			continue
		}
		t.Errorf("%s: %s is %v, want its default", where, name, value)
	}
	if seen != len(want) {
		t.Errorf("%s: fields %v, Kafka shows %v", where, got, want)
	}
}

func checkControl(t *testing.T, r logRecord, kind, body string) {
	t.Helper()
	ct, err := DecodeControlKey(r.key)
	if err != nil {
		t.Fatalf("offset %d: %v", r.offset, err)
	}
	if !bytes.Equal(AppendControlKey(nil, ct), r.key) {
		t.Errorf("offset %d: key %x", r.offset, r.key)
	}
	type control interface {
		AppendTo([]byte) []byte
		Decode([]byte) error
	}
	m, ok := map[ControlType]control{
		ControlLeaderChange: &LeaderChange{}, ControlKRaftVersion: &KRaftVersion{}, ControlKRaftVoters: &KRaftVoters{},
		ControlSnapshotHeader: &SnapshotHeader{}, ControlSnapshotFooter: &SnapshotFooter{},
	}[ct]
	if !ok || reflect.TypeOf(m).Elem().Name() != kind {
		t.Fatalf("offset %d: control record %d, want %s", r.offset, ct, kind)
	}
	if err := m.Decode(r.value); err != nil {
		t.Fatalf("offset %d: %v", r.offset, err)
	}
	if again := m.AppendTo(nil); !bytes.Equal(again, r.value) {
		t.Errorf("offset %d: encoded as %x, Kafka wrote %x", r.offset, again, r.value)
	}
	for n := range r.value {
		if m.Decode(r.value[:n]) == nil {
			t.Errorf("offset %d: %d of %d bytes decode", r.offset, n, len(r.value))
		}
	}
	switch m := m.(type) {
	case *LeaderChange:
		if m.Decode(r.value) != nil || m.LeaderID != 1 || !reflect.DeepEqual(m.Voters, []Voter{{ID: 1}}) || !reflect.DeepEqual(m.GrantingVoters, m.Voters) {
			t.Errorf("LeaderChange %+v, want %s", m, body)
		}
	case *KRaftVoters:
		if m.Decode(r.value) != nil || len(m.Voters) != 1 || !reflect.DeepEqual(m.Voters[0].Endpoints, []VoterEndpoint{{"CONTROLLER", "127.0.0.1", 19693}}) ||
			UUIDString(m.Voters[0].DirectoryID) != "jhcxEmWqRyKVWSyFlwE84g" || m.Voters[0].MaxSupportedVersion != 1 {
			t.Errorf("KRaftVoters %+v, want %s", m, body)
		}
	case *KRaftVersion:
		if m.Decode(r.value) != nil || m.KRaftVersion != 1 {
			t.Errorf("KRaftVersion %+v, want %s", m, body)
		}
	}
}

// The image of a real log is the one that Kafka had.
func TestLoadRealLog(t *testing.T) {
	s := NewShard(ShardOptions{ClusterID: "c", NodeID: 1})
	for _, r := range readSegment(t, "testdata/kafka-4.3.1-static.log") {
		if !r.control {
			s.Apply(coordinator.Record{Value: r.value})
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	compareGolden(t, "testdata/kafka-4.3.1-static.image", dumpImage(s.Image()))
}

// fill gives every field of a message a random value.
func fill(rng *rand.Rand, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *[16]byte:
		for i := range x {
			x[i] = byte(rng.Uint32())
		}
		return
	case *[]byte:
		*x = []byte{byte(rng.Uint32()), 0}
		return
	case *TaggedFields: // tags from 100 on are known to no version
		tag := uint32(100)
		for range rng.IntN(3) {
			tag += 1 + uint32(rng.IntN(1000))
			*x = append(*x, TaggedField{tag, bytes.Repeat([]byte{byte(tag)}, rng.IntN(200))})
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.Uint64()) >> (64 - v.Type().Bits()))
	case reflect.Uint16:
		v.SetUint(uint64(rng.Uint32() & 0xffff))
	case reflect.Float64:
		v.SetFloat(rng.NormFloat64())
	case reflect.String:
		v.SetString(strings.Repeat("xé", rng.IntN(80)))
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(rng, v.Field(i))
		}
	}
}

// In the highest version of a type nothing is lost; in each version the bytes
// decode and encode to themselves, and no shorter ones decode.
func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, typ := range allTypes() {
		k, _ := typ.kind()
		for version := int16(0); version <= k.max; version++ {
			for range 50 {
				m := k.empty()
				fill(rng, reflect.ValueOf(m).Elem())
				b := AppendRecord(nil, m, version)
				got, v, err := DecodeRecord(b)
				if err != nil || v != version {
					t.Fatalf("%s version %d: version %d, %v", k.name, version, v, err)
				}
				if version == k.max && !reflect.DeepEqual(got, m) {
					t.Fatalf("%s version %d: got\n%+v, want\n%+v", k.name, version, got, m)
				}
				if again := AppendRecord(nil, got, version); !bytes.Equal(again, b) {
					t.Fatalf("%s version %d: encoded as %x, then as %x", k.name, version, b, again)
				}
				if _, _, err := DecodeRecord(b[:rng.IntN(len(b))]); err == nil {
					t.Fatalf("%s version %d: a part of %x decodes", k.name, version, b)
				}
				if _, _, err := DecodeRecord(append(b, 0)); err == nil {
					t.Fatalf("%s version %d: garbage at the end is not noticed", k.name, version)
				}
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	long := append([]byte{1, 2, 0}, appendString(nil, strings.Repeat("x", maxStringBytes+1))...)
	long = append(append(long, make([]byte, 16)...), 0)
	for name, c := range map[string]struct {
		b       []byte
		unknown bool
	}{
		"nothing":                  {nil, false},
		"frame version 0":          {[]byte{0, 20, 0, 0}, true},
		"frame version 2":          {[]byte{2, 20, 0, 0}, true},
		"type 6":                   {[]byte{1, 6, 0, 0}, true},
		"type 2^32-1":              {[]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0}, true},
		"number of six bytes":      {[]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, false},
		"number over 32 bits":      {[]byte{1, 0xff, 0xff, 0xff, 0xff, 0x1f}, false},
		"next version of a type":   {[]byte{1, 3, 3, 0}, true},
		"null name":                {append([]byte{1, 12, 0}, 0, 0, 1, 0), false},
		"string over 32767 bytes":  {long, false},
		"array of 2^31 in 3 bytes": {append([]byte{1, 14, 0}, 0x80, 0x80, 0x80, 0x80, 0x08), false},
		"tag of 2^31 bytes":        {[]byte{1, 20, 0, 1, 9, 0x80, 0x80, 0x80, 0x80, 0x08}, false},
		"2^31 tags":                {[]byte{1, 20, 0, 0x80, 0x80, 0x80, 0x80, 0x08}, false},
		"known tag too long":       {[]byte{1, 23, 0, 1, 0, 3, 2, 'x', 'y'}, false},
		"known tag too short":      {[]byte{1, 23, 0, 1, 0, 2, 5, 'x'}, false},
	} {
		_, _, err := DecodeRecord(c.b)
		if err == nil || errors.Is(err, ErrUnknownRecord) != c.unknown {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// Tagged fields that this version of Kafka does not know are kept and written back
// in their order, those too that only a higher version of the record knows.
func TestUnknownTagsAreKept(t *testing.T) {
	text := []byte{1, 23, 0, 2, 0, 2, 2, 'x', 99, 3, 1, 2, 3}
	m, version, err := DecodeRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	if b := m.(*BeginTransactionRecord); b.Name == nil || *b.Name != "x" || len(b.Unknown) != 1 {
		t.Errorf("name %v, unknown %v", b.Name, b.Unknown)
	}
	if again := AppendRecord(nil, m, version); !bytes.Equal(again, text) {
		t.Errorf("encoded as %x", again)
	}
	change := []byte{1, 17, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 4, 0, 1, 1, 1, 1, 1, 2, 1, 1, 50, 0}
	m, version, err = DecodeRecord(change) // directories are tag 2, known from version 2 on
	if err != nil {
		t.Fatal(err)
	}
	if c := m.(*BrokerRegistrationChangeRecord); c.Fenced != 1 || c.InControlledShutdown != 1 || len(c.LogDirs) != 0 || len(c.Unknown) != 2 {
		t.Errorf("change %+v", c)
	}
	if again := AppendRecord(nil, m, version); !bytes.Equal(again, change) {
		t.Errorf("encoded as %x", again)
	}
}

// FuzzDecodeRecord: no input panics, and what decodes encodes to something that
// decodes to the same.
func FuzzDecodeRecord(f *testing.F) {
	for _, name := range realLogs {
		for _, r := range readSegment(f, "testdata/"+name) {
			f.Add(r.value)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, typ := range allTypes() {
		k, _ := typ.kind()
		m := k.empty()
		fill(rng, reflect.ValueOf(m).Elem())
		f.Add(AppendRecord(nil, m, k.max))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, version, err := DecodeRecord(b)
		if err != nil {
			return
		}
		again := AppendRecord(nil, m, version)
		m2, version2, err := DecodeRecord(again)
		if err != nil || version2 != version {
			t.Fatalf("%x decodes, %x does not: %v", b, again, err)
		}
		if third := AppendRecord(nil, m2, version); !bytes.Equal(third, again) {
			t.Fatalf("%x, then %x", again, third)
		}
		for _, d := range []interface{ Decode([]byte) error }{&LeaderChange{}, &KRaftVersion{}, &KRaftVoters{}, &SnapshotHeader{}, &SnapshotFooter{}} {
			_ = d.Decode(b)
		}
	})
}

// A decoder allocates in proportion to the bytes that are there, whatever they say.
func TestDecodeAllocatesInProportion(t *testing.T) {
	body := appendLength([]byte{1, 14, 0}, 1<<20) // a million quota entities, if one believes it
	body = append(body, bytes.Repeat([]byte{1, 0, 0}, 100)...)
	if n := testing.AllocsPerRun(10, func() { _, _, _ = DecodeRecord(body) }); n > 20 {
		t.Errorf("%v allocations for %d bytes", n, len(body))
	}
}
