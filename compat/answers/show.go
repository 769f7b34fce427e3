package answers

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shower writes an answer as text.
type shower struct {
	names *names
	shape shape
	api   string   // as in the tables of differences.go
	only  string   // prefix of the names in the top lists that are shown, "" = all
	hide  []string // names of fields that are not shown
}

// show is the text of an answer.
func (s *shower) show(m message) string {
	return s.structLines(reflect.ValueOf(m).Elem(), "", "", "")
}

// structLines writes the plain fields of a struct in one line and its lists of
// structs below it. first starts the first line, indent the others.
func (s *shower) structLines(v reflect.Value, path, first, indent string) string {
	var plain []string
	var lists strings.Builder
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		at := join(path, name)
		if skipped(name) || !s.shape[at].present || slices.Contains(s.hide, name) {
			continue
		}
		f := v.Field(i)
		if how, ok := shownOtherwise[s.api+" "+at]; ok {
			plain = append(plain, name+": "+how.show(f))
			continue
		}
		switch {
		case f.Kind() == reflect.Pointer && f.Type().Elem().Kind() == reflect.Struct && !f.IsNil():
			lists.WriteString(indent + name + ":\n" + s.structLines(f.Elem(), at, indent+"  ", indent+"  "))
		case f.Kind() == reflect.Struct:
			lists.WriteString(indent + name + ":\n" + s.structLines(f, at, indent+"  ", indent+"  "))
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && f.Len() > 0 && noneKept(s.api+" "+at, f):
			plain = append(plain, name+": []")
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && f.Len() > 0:
			lists.WriteString(indent + name + ":\n" + s.list(f, at, indent))
		case name == "RecordBatches" && f.Len() > 0:
			lists.WriteString(indent + name + ":\n" + s.names.showBatches(f.Bytes(), indent))
		default:
			plain = append(plain, name+": "+s.plain(name, at, f))
		}
	}
	if len(plain) == 0 {
		rest, _ := strings.CutPrefix(lists.String(), indent)
		return first + rest
	}
	return first + strings.Join(plain, ", ") + "\n" + lists.String()
}

// list writes the items of a list of structs, each after a dash.
func (s *shower) list(f reflect.Value, at, indent string) string {
	var order []int
	left := 0
	for i := range f.Len() {
		if keep(s.api, at, s.only, f.Index(i)) {
			order = append(order, i)
		} else {
			left++
		}
	}
	if unordered[s.api+" "+at] {
		outer := s.names.masked // a list within one that is being sorted
		s.names.masked = true
		keys := map[int]string{}
		for _, i := range order {
			keys[i] = s.structLines(f.Index(i), at, "", "")
		}
		s.names.masked = outer
		sort.SliceStable(order, func(a, b int) bool { return keys[order[a]] < keys[order[b]] })
	}
	var out strings.Builder
	for _, i := range order {
		out.WriteString(s.structLines(f.Index(i), at, indent+"- ", indent+"  "))
	}
	return out.String()
}

// plain is the text of a field that fits on a line.
func (s *shower) plain(name, at string, f reflect.Value) string {
	switch f.Kind() {
	case reflect.Pointer:
		if f.IsNil() {
			return "null"
		}
		return s.plain(name, at, f.Elem())
	case reflect.String:
		if name == "MemberID" {
			return s.names.showMemberID(f.String())
		}
		return s.names.showText(f.String())
	case reflect.Bool:
		return strconv.FormatBool(f.Bool())
	case reflect.Array:
		return s.names.showTopicID([16]byte(f.Interface().([16]byte)))
	case reflect.Slice:
		if f.Type().Elem().Kind() == reflect.Uint8 {
			return showBytes(f.Bytes())
		}
		if f.IsNil() && s.shape[at].nullable {
			return "null"
		}
		var parts []string
		for i := range f.Len() {
			parts = append(parts, s.plain(name, at, f.Index(i)))
		}
		if unordered[s.api+" "+at] {
			slices.Sort(parts)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Float64:
		return strconv.FormatFloat(f.Float(), 'g', -1, 64)
	case reflect.Uint16, reflect.Uint32:
		return strconv.FormatUint(f.Uint(), 10)
	}
	return s.names.showNumber(name, f.Int())
}

// showBytes shows bytes as text where they are, as hex where they are not, and
// long ones by their length and CRC-32.
func showBytes(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) > 64:
		return fmt.Sprintf("(%d bytes, crc %08x)", len(b), crc32.ChecksumIEEE(b))
	case utf8.Valid(b) && strings.IndexFunc(string(b), func(c rune) bool { return !unicode.IsPrint(c) }) < 0:
		return strconv.Quote(string(b))
	}
	return `hex"` + hex.EncodeToString(b) + `"`
}
