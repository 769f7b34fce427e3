package invariant

import (
	"errors"
	"testing"
)

func violation(t *testing.T, f func()) (v *Violation) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			v = r.(*Violation)
		}
	}()
	f()
	return nil
}

func TestThat(t *testing.T) {
	tests := []struct {
		name string
		ok   bool
		kv   []any
		want string
	}{
		{"holds", true, []any{"next", 1}, ""},
		{"no facts", false, nil, "invariant violated: offsets go forward"},
		{"facts", false, []any{"next", 3, "end", int64(5)}, "invariant violated: offsets go forward: next=3 end=5"},
		{"key without value", false, []any{"next", 3, "end"}, "invariant violated: offsets go forward: next=3 end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := violation(t, func() { That(tt.ok, "offsets go forward", tt.kv...) })
			got := ""
			if v != nil {
				got = v.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckedRunsInTests(t *testing.T) {
	ran := false
	if v := violation(t, func() { Checked(func() error { ran = true; return nil }) }); v != nil || !ran {
		t.Errorf("violation %v, ran %v; want none, true", v, ran)
	}
	v := violation(t, func() { Checked(func() error { return errors.New("index is sorted") }) })
	if v == nil || v.Error() != "invariant violated: index is sorted" {
		t.Errorf("got %v", v)
	}
}
