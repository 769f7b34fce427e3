package metadata

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// jsonName is the name that Kafka's JSON converters give a field.
func jsonName(field string) string {
	if strings.HasSuffix(field, "ID") {
		field = strings.TrimSuffix(field, "ID") + "Id"
	}
	return strings.ToLower(field[:1]) + field[1:]
}

// jsonValue turns a field into what encoding/json makes of Kafka's JSON.
func jsonValue(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case [16]byte:
		return UUIDString(x)
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case *string:
		if x == nil {
			return nil
		}
		return *x
	}
	switch v.Kind() {
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		list := []any{}
		for i := range v.Len() {
			list = append(list, jsonValue(v.Index(i)))
		}
		return list
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			if unknown, ok := v.Field(i).Interface().(TaggedFields); ok && unknown == nil {
				continue // Kafka's converters do not know them
			}
			m[jsonName(v.Type().Field(i).Name)] = jsonValue(v.Field(i))
		}
		return m
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return float64(v.Int())
	case reflect.Uint16:
		return float64(v.Uint())
	}
	return v.Interface()
}

// shortID prints the small ids of tests as numbers.
func shortID(id [16]byte) string {
	if binary.BigEndian.Uint64(id[:8]) == 0 {
		return fmt.Sprintf("#%d", binary.BigEndian.Uint64(id[8:]))
	}
	return UUIDString(id)
}

// dumpValue prints a value of a record or an image in one line.
func dumpValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case [16]byte:
		return shortID(x)
	case *string:
		if x == nil {
			return "null"
		}
		return *x
	case map[string]string:
		s := []string{}
		for _, k := range slices.Sorted(maps.Keys(x)) {
			s = append(s, k+"="+x[k])
		}
		return "{" + strings.Join(s, " ") + "}"
	}
	switch v.Kind() {
	case reflect.Slice:
		s := []string{}
		for i := range v.Len() {
			s = append(s, dumpValue(v.Index(i)))
		}
		return "[" + strings.Join(s, " ") + "]"
	case reflect.Struct:
		return "{" + dumpFields(v) + "}"
	}
	return fmt.Sprint(v.Interface())
}

// dumpFields prints the fields that are neither zero, nil nor unexported.
func dumpFields(v reflect.Value) string {
	s := []string{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || v.Field(i).IsZero() && f.Type.Kind() != reflect.Int32 && f.Name != "LeaderRecoveryState" {
			continue
		}
		// What a change leaves alone, and what a new partition always is.
		if x := v.Field(i); f.Name == "LeaderRecoveryState" && x.Int() == int64(noRecoveryChange) || f.Name == "Leader" && x.Int() == int64(NoLeaderChange) ||
			f.Name == "LeaderRecoveryState" && v.Type() == reflect.TypeFor[PartitionRecord]() && x.Int() == 0 {
			continue
		}
		s = append(s, f.Name+"="+dumpValue(v.Field(i)))
	}
	return strings.Join(s, " ")
}

func dumpRecord(t testing.TB, value []byte) string {
	m, version, err := DecodeRecord(value)
	if err != nil {
		t.Fatalf("record %x: %v", value, err)
	}
	name := strings.TrimSuffix(m.Type().String(), "_RECORD")
	return strings.TrimSpace(fmt.Sprintf("%s/%d %s", name, version, dumpFields(reflect.ValueOf(m).Elem())))
}

// dumpControl prints a control record of the quorum.
func dumpControl(t testing.TB, key, value []byte) string {
	kind, err := DecodeControlKey(key)
	var q Quorum
	if err == nil {
		err = q.Apply(kind, value)
	}
	if err != nil {
		t.Fatalf("control record %x %x: %v", key, value, err)
	}
	return fmt.Sprintf("%d version=%d voters=%s", kind, q.Version, dumpValue(reflect.ValueOf(q.Voters)))
}

// dumpImage prints everything that an image says.
func dumpImage(img *Image) string {
	var b strings.Builder
	fmt.Fprintf(&b, "topics=%d partitions=%d nextProducerID=%d\n", img.TopicCount(), img.PartitionCount(), img.NextProducerID)
	for _, f := range img.Features() {
		fmt.Fprintf(&b, "feature %s=%d\n", f.Name, f.Level)
	}
	if img.Quorum.Version > 0 {
		fmt.Fprintf(&b, "kraft.version=%d voters=%s\n", img.Quorum.Version, dumpValue(reflect.ValueOf(img.Quorum.Voters)))
	}
	for _, x := range img.Controllers() {
		fmt.Fprintf(&b, "controller %s\n", dumpFields(reflect.ValueOf(x).Elem()))
	}
	for _, x := range img.Brokers() {
		fmt.Fprintf(&b, "broker %s\n", dumpFields(reflect.ValueOf(x).Elem()))
	}
	resources := []string{}
	for r, c := range img.configs {
		resources = append(resources, fmt.Sprintf("configs %d %q %s\n", r.Type, r.Name, dumpValue(reflect.ValueOf(c))))
	}
	slices.Sort(resources)
	b.WriteString(strings.Join(resources, ""))
	img.keptMessages(func(m Message) bool {
		if m.Type() != TypeProducerIDs {
			fmt.Fprintf(&b, "%s %s\n", m.Type(), dumpFields(reflect.ValueOf(m).Elem()))
		}
		return true
	})
	for t := range img.All() {
		fmt.Fprintf(&b, "topic %s id=%s internal=%v configs=%s\n", t.Name, shortID(t.ID), t.Internal, dumpValue(reflect.ValueOf(t.Configs)))
		for _, p := range t.Partitions {
			fmt.Fprintf(&b, "  partition %s\n", dumpFields(reflect.ValueOf(p)))
		}
	}
	return b.String()
}

// logRecord is one record of a log segment.
type logRecord struct {
	offset     int64
	control    bool
	key, value []byte
}

// readSegment reads the records of a segment or snapshot with uncompressed
// batches, as Kafka writes its metadata.
func readSegment(t testing.TB, name string) []logRecord {
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var rs []logRecord
	for len(b) > 0 {
		size := 12 + int(binary.BigEndian.Uint32(b[8:]))
		batch := b[:size]
		b = b[size:]
		if crc := binary.BigEndian.Uint32(batch[17:]); batch[16] != 2 || crc != crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)) {
			t.Fatalf("%s: bad batch", name)
		}
		base := int64(binary.BigEndian.Uint64(batch))
		attributes := binary.BigEndian.Uint16(batch[21:])
		if attributes&7 != 0 {
			t.Fatalf("%s: compressed batch", name)
		}
		count := int(binary.BigEndian.Uint32(batch[57:]))
		rest := batch[61:]
		varint := func() int64 {
			v, n := binary.Varint(rest)
			rest = rest[n:]
			return v
		}
		field := func() []byte {
			n := varint()
			if n < 0 {
				return nil
			}
			v := rest[:n:n]
			rest = rest[n:]
			return v
		}
		for range count {
			varint()
			rest = rest[1:]
			varint()
			r := logRecord{offset: base + varint(), control: attributes&32 != 0}
			r.key, r.value = field(), field()
			if varint() != 0 {
				t.Fatalf("%s: headers", name)
			}
			rs = append(rs, r)
		}
	}
	return rs
}
