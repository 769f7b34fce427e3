package broker

import (
	"context"
	"reflect"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/protocol"
)

// counted makes a handler count the error codes of its answers, for the APIs
// whose handlers do not count their own (Produce and Fetch do, without looking
// at every partition again).
func (b *Broker) counted(key int16, begin func(context.Context, *protocol.Call) protocol.Answer) func(context.Context, *protocol.Call) protocol.Answer {
	finder := newCodeFinder()
	return func(ctx context.Context, c *protocol.Call) protocol.Answer {
		return begin(ctx, c).Map(func(r protocol.Response) protocol.Response {
			if m, ok := r.(kmsg.Response); ok {
				finder.walk(reflect.ValueOf(m).Elem(), func(code int16) { b.metrics.errorCode(key, code) })
			}
			return r
		})
	}
}

// codeFinder finds the ErrorCode fields of one API's responses. Which fields of a
// struct can hold one is worked out once a type.
type codeFinder struct {
	types sync.Map // reflect.Type -> []int, the fields worth a look
}

func newCodeFinder() *codeFinder { return &codeFinder{} }

// walk calls found with every error code in v that is not 0, as Kafka counts one
// error for each partition or resource that has one.
func (f *codeFinder) walk(v reflect.Value, found func(int16)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			f.walk(v.Elem(), found)
		}
	case reflect.Slice:
		for i := range v.Len() {
			f.walk(v.Index(i), found)
		}
	case reflect.Int16:
		if code := int16(v.Int()); code != 0 {
			found(code)
		}
	case reflect.Struct:
		for _, i := range f.fields(v.Type()) {
			f.walk(v.Field(i), found)
		}
	}
}

func (f *codeFinder) fields(t reflect.Type) []int {
	if known, ok := f.types.Load(t); ok {
		return known.([]int)
	}
	var fields []int
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Name == "ErrorCode" && field.Type.Kind() == reflect.Int16 || field.IsExported() && holdsCodes(field.Type) {
			fields = append(fields, i)
		}
	}
	f.types.Store(t, fields)
	return fields
}

// holdsCodes reports whether a value of the type has an ErrorCode somewhere. The
// types of kmsg are trees.
func holdsCodes(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return holdsCodes(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			field := t.Field(i)
			if field.Name == "ErrorCode" || field.IsExported() && holdsCodes(field.Type) {
				return true
			}
		}
	}
	return false
}
