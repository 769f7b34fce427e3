package protocol

import "reflect"

const (
	// decodedTimes is how many times its encoded size a request takes decoded, at most: an empty element of an array is
	// one byte on the wire, and a struct in memory.
	decodedTimes = 26
	// cheapBody is the size up to which a request is decoded without memory credit: all but a few are smaller.
	cheapBody = 16 << 10
)

// decodedBytes is what a decoded request takes of memory, in bytes: all that can be reached from it.
func decodedBytes(req any) int64 {
	return int64(reflect.TypeOf(req).Elem().Size()) + reached(reflect.ValueOf(req).Elem())
}

// reached is what a value takes beyond its own size.
func reached(v reflect.Value) (n int64) {
	switch v.Kind() {
	case reflect.String:
		return int64(v.Len())
	case reflect.Slice:
		size := v.Type().Elem().Size()
		n = int64(v.Cap()) * int64(size)
		if !holds(v.Type().Elem()) {
			return n
		}
		for i := range v.Len() {
			n += reached(v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			n = int64(v.Type().Elem().Size()) + reached(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += reached(v.Field(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			n += 2*int64(v.Type().Key().Size()+v.Type().Elem().Size()) + reached(it.Key()) + reached(it.Value())
		}
	}
	return n
}

// holds tells whether a value of the type may take more than its own size.
func holds(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Slice, reflect.Pointer, reflect.Struct, reflect.Map:
		return true
	}
	return false
}
