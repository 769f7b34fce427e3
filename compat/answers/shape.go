package answers

import (
	"fmt"
	"reflect"
)

// shape tells which fields one version of a message has: path -> field.
type shape map[string]fieldShape

type fieldShape struct {
	present  bool // the version has the field
	nullable bool // a list that may be null
}

// message is a request or a response of kmsg.
type message interface {
	Default()
	SetVersion(int16)
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
}

// shapeOf finds the fields by trying: every field is set to something that is
// not its default; what comes back after encoding and decoding is in the
// version. An empty list that does not come back as nil can be null.
func shapeOf(fresh func() message, version int16) (shape, error) {
	s := shape{}
	for _, withItems := range []bool{true, false} {
		m := fresh()
		m.Default()
		m.SetVersion(version)
		if withItems {
			disturb(reflect.ValueOf(m).Elem(), false)
		} else {
			emptyLists(reflect.ValueOf(m).Elem())
		}
		back := fresh()
		back.SetVersion(version)
		if err := back.ReadFrom(m.AppendTo(nil)); err != nil {
			return nil, fmt.Errorf("version %d is not readable: %w", version, err)
		}
		if withItems {
			s.learn(reflect.ValueOf(back).Elem(), "")
		} else {
			s.learnNullable(reflect.ValueOf(back).Elem(), "")
		}
	}
	return s, nil
}

// skipped are the members of kmsg's structs that are no fields of the message.
func skipped(name string) bool { return name == "Version" || name == "UnknownTags" }

// disturb sets every field to another value than its default. Lists get two
// items: in the second, lists are empty.
func disturb(v reflect.Value, listsEmpty bool) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if !skipped(v.Type().Field(i).Name) {
				disturb(v.Field(i), listsEmpty)
			}
		}
	case reflect.Pointer:
		v.Set(newDefault(v.Type().Elem()))
		disturb(v.Elem(), listsEmpty)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte{7})
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 0, 2))
		if listsEmpty {
			return
		}
		for _, empty := range []bool{false, true} {
			e := newDefault(v.Type().Elem()).Elem()
			disturb(e, empty)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Array:
		v.Index(0).SetUint(7)
	case reflect.String:
		v.SetString("7")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7)
	}
}

func emptyLists(v reflect.Value) {
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice && !skipped(v.Type().Field(i).Name) {
			f.Set(reflect.MakeSlice(f.Type(), 0, 0))
		}
	}
}

// learn compares a struct that came back with its defaults.
func (s shape) learn(v reflect.Value, path string) {
	fresh := newDefault(v.Type()).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if skipped(name) || reflect.DeepEqual(v.Field(i).Interface(), fresh.Field(i).Interface()) {
			continue
		}
		at := join(path, name)
		s[at] = fieldShape{present: true, nullable: s[at].nullable}
		f := v.Field(i)
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		switch {
		case f.Kind() == reflect.Struct:
			s.learn(f, at)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && f.Len() == 2:
			s.learn(f.Index(0), at)
			s.learnNullable(f.Index(1), at)
		}
	}
}

// learnNullable looks at a struct whose lists were sent empty.
func (s shape) learnNullable(v reflect.Value, path string) {
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		if skipped(name) || f.Kind() != reflect.Slice || f.Type().Elem().Kind() == reflect.Uint8 {
			continue
		}
		at := join(path, name)
		s[at] = fieldShape{present: s[at].present, nullable: !f.IsNil()}
	}
}
