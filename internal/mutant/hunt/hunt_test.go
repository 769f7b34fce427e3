package main

import (
	"strings"
	"testing"
)

// TestWatch: the first test that fails is told of, without its parts; a panic leaves the last that ran.
func TestWatch(t *testing.T) {
	for _, c := range []struct{ name, out, failed, last string }{
		{"pass", "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", "", "TestA"},
		{"fail", "=== RUN   TestA\n=== RUN   TestA/x/y\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/x/y (0.00s)\n=== RUN   TestB\n", "TestA", "TestB"},
		{"part first", "=== RUN   TestA/x\n    --- FAIL: TestA/x (0.00s)\n", "TestA", "TestA"},
		{"panic", "=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB/deep\npanic: oops\n", "", "TestB"},
	} {
		failed := ""
		lines := 0
		last := watch(strings.NewReader(c.out), func() { lines++ }, func(test string) { failed = test })
		if lines != strings.Count(c.out, "\n") {
			t.Errorf("%s: %d lines", c.name, lines)
		}
		if failed != c.failed || last != c.last {
			t.Errorf("%s: failed %q, last %q; want %q and %q", c.name, failed, last, c.failed, c.last)
		}
	}
}
