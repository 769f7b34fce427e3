package answers

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// filler sets the fields of a request from a script.
type filler struct {
	names   *names
	shape   shape  // what the version has
	version string // for messages: "Fetch v4"
}

// fill sets one value; path names it in messages and in the shape.
func (f *filler) fill(v reflect.Value, n node, path string) error {
	if err := f.set(v, n, path); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (f *filler) set(v reflect.Value, n node, path string) error {
	isNull := n.kind == word && n.text == "null"
	switch v.Kind() {
	case reflect.Pointer:
		if isNull {
			v.SetZero()
			return nil
		}
		v.Set(newDefault(v.Type().Elem()))
		return f.set(v.Elem(), n, path)
	case reflect.Struct:
		return f.setStruct(v, n, path)
	case reflect.Slice:
		if isNull {
			v.SetZero()
			return nil
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b, err := f.bytes(n)
			v.SetBytes(b)
			return err
		}
		return f.setSlice(v, n, path)
	case reflect.Array: // a UUID
		if n.kind != word {
			return fmt.Errorf("want a topic id")
		}
		id, err := f.names.topicID(n.text)
		v.Set(reflect.ValueOf(id))
		return err
	}
	return f.setScalar(v, n)
}

func (f *filler) setScalar(v reflect.Value, n node) error {
	switch v.Kind() {
	case reflect.String:
		s, err := f.text(n)
		v.SetString(s)
		return err
	case reflect.Bool:
		b, err := strconv.ParseBool(n.text)
		v.SetBool(b)
		return err
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n.kind != word {
			return fmt.Errorf("want a number")
		}
		i, err := f.names.number(n.text)
		if err != nil {
			return err
		}
		if v.OverflowInt(i) {
			return fmt.Errorf("%d does not fit", i)
		}
		v.SetInt(i)
		return nil
	}
	return fmt.Errorf("a field of type %v cannot be set", v.Type())
}

func (f *filler) setStruct(v reflect.Value, n node, path string) error {
	if n.kind != fields || n.maker != "" {
		return fmt.Errorf("want {..}")
	}
	for _, fd := range n.fields {
		at := join(path, fd.name)
		member := v.FieldByName(fd.name)
		if !member.IsValid() || fd.name == "Version" || fd.name == "UnknownTags" {
			return fmt.Errorf("there is no field %s", fd.name)
		}
		if !f.shape[at].present {
			return fmt.Errorf("%s has no field %s", f.version, fd.name)
		}
		if err := f.fill(member, fd.value, at); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) setSlice(v reflect.Value, n node, path string) error {
	if n.kind != items {
		return fmt.Errorf("want [..]")
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, len(n.items)))
	for _, it := range n.items {
		e := newDefault(v.Type().Elem()).Elem()
		if err := f.set(e, it, path); err != nil {
			return err
		}
		v.Set(reflect.Append(v, e))
	}
	return nil
}

// text reads a string value.
func (f *filler) text(n node) (string, error) {
	switch {
	case n.kind == fields && n.maker == "repeat":
		return repeat(n)
	case n.kind == word || n.kind == text:
		for _, u := range uuidPattern.FindAllString(n.text, -1) {
			f.names.literal(kindUUID, u, u)
		}
		return f.names.resolve(n.text)
	}
	return "", fmt.Errorf("want a text")
}

// bytes reads a bytes value; a list is joined.
func (f *filler) bytes(n node) ([]byte, error) {
	switch {
	case n.kind == raw:
		return []byte(n.text), nil
	case n.kind == word && n.text == "null":
		return nil, nil
	case n.kind == fields && n.maker == "batch":
		return f.batch(n)
	case n.kind == items:
		all := []byte{}
		for _, it := range n.items {
			b, err := f.bytes(it)
			if err != nil {
				return nil, err
			}
			all = append(all, b...)
		}
		return all, nil
	}
	s, err := f.text(n)
	return []byte(s), err
}

// repeat is repeat{text: x, times: 300}.
func repeat(n node) (string, error) {
	if len(n.fields) != 2 || n.fields[0].name != "text" || n.fields[1].name != "times" {
		return "", fmt.Errorf("want repeat{text: X, times: N}")
	}
	times, err := strconv.Atoi(n.fields[1].value.text)
	if err != nil || times < 0 || times*len(n.fields[0].value.text) > maxFrame {
		return "", fmt.Errorf("repeat: times is %q", n.fields[1].value.text)
	}
	return strings.Repeat(n.fields[0].value.text, times), nil
}

// newDefault is a pointer to a new value with kmsg's defaults.
func newDefault(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if d, ok := p.Interface().(interface{ Default() }); ok {
		d.Default()
	}
	return p
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
