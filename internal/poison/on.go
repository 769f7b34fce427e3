//go:build poison

package poison

import (
	"fmt"
	"reflect"
	"sync"
	"unsafe"
)

// On reports whether this is a build with poison.
const On = true

const (
	// keptValues and keptBytes bound what one pool looks at again later: the last that were released.
	keptValues = 256
	keptBytes  = 16 << 20
)

// Pool hands out new values only, and spoils those that come back. The zero value
// is ready; it is safe for concurrent use and must not be copied.
type Pool[T any] struct {
	mu    sync.Mutex
	kept  []*T
	bytes int
}

// Get returns a new zero value.
func (p *Pool[T]) Get() *T { return new(T) }

// Put spoils v. It panics if one that was released earlier has been written to since.
func (p *Pool[T]) Put(v *T) {
	w := spoiler{}
	w.value(reflect.ValueOf(v).Elem(), false)
	p.mu.Lock()
	p.kept, p.bytes = append(p.kept, v), p.bytes+w.bytes
	for len(p.kept) > 1 && (len(p.kept) > keptValues || p.bytes > keptBytes) {
		p.bytes -= check(p.kept[0])
		p.kept = p.kept[1:]
	}
	p.mu.Unlock()
}

// check panics unless v is as it was spoiled. It returns the bytes that v owns.
func check[T any](v *T) int {
	w := spoiler{look: true}
	w.value(reflect.ValueOf(v).Elem(), false)
	if w.wrong != "" {
		panic(fmt.Sprintf("poison: a %T was written to after its release: %s", v, w.wrong))
	}
	return w.bytes
}

// Bytes spoils b, in its whole capacity, which is released without a pool.
func Bytes(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = Pattern
	}
}

// spoiler walks over a value, and spoils it or looks whether it still is spoiled.
type spoiler struct {
	look  bool
	bytes int    // owned
	wrong string // the first thing that was found
}

// text is what every text becomes.
const text = "poisoned"

func (w *spoiler) value(v reflect.Value, own bool) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			// Also those that are not exported: their address makes them so.
			f = reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
			w.value(f, v.Type().Field(i).Tag.Get("poison") == "own")
		}
	case reflect.Slice:
		w.slice(v, own)
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			w.raw(v.Slice(0, v.Len()).Bytes(), v.Type())
			return
		}
		for i := range v.Len() {
			w.value(v.Index(i), false)
		}
	default:
		w.set(v, spoiled(v.Type()))
	}
}

func (w *spoiler) slice(v reflect.Value, own bool) {
	switch {
	case v.Type().Elem().Kind() != reflect.Uint8:
		all := v.Slice(0, v.Cap())
		for i := range all.Len() {
			w.value(all.Index(i), false)
		}
	case own:
		b := v.Slice(0, v.Cap()).Bytes()
		w.bytes += len(b)
		w.raw(b, v.Type())
	case w.look:
		w.raw(v.Bytes(), v.Type())
	case !v.IsNil():
		b := make([]byte, min(v.Len(), 64))
		Bytes(b)
		v.SetBytes(b)
	}
}

func (w *spoiler) raw(b []byte, t reflect.Type) {
	if !w.look {
		Bytes(b[:len(b):len(b)])
		return
	}
	for i, x := range b {
		if x != Pattern && w.wrong == "" {
			w.wrong = fmt.Sprintf("byte %d of %d of a %v is %#x", i, len(b), t, x)
		}
	}
}

func (w *spoiler) set(v, to reflect.Value) {
	switch {
	case !w.look:
		v.Set(to)
	case w.wrong != "":
	case v.Comparable() && to.Comparable() && !v.Equal(to), !v.Comparable() && !v.IsZero():
		w.wrong = fmt.Sprintf("a %v is not what it was made", v.Type())
	}
}

// spoiled is the value of a type that has no parts: the pattern, or nil.
func spoiled(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case v.CanInt():
		v.SetInt(int64(-0x2424242424242425) >> (64 - t.Bits())) // 0xDBDB...
	case v.CanUint() && t.Kind() != reflect.Uintptr:
		v.SetUint(0xDBDBDBDBDBDBDBDB >> (64 - t.Bits()))
	case v.CanFloat():
		v.SetFloat(-1e-30)
	case t.Kind() == reflect.Bool:
		v.SetBool(true)
	case t.Kind() == reflect.String:
		v.SetString(text)
	}
	return v
}
