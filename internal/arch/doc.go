// Package arch holds the architecture of the project as a test: ARCHITECTURE.md
// says which room may import which, what a pure room may not touch, where state
// may live and how long a function may be, and the tests of this package read
// the source tree and fail when it no longer agrees.
//
// The package has no code outside its tests. table_test.go is the part to edit:
// the rooms, and every exception with its reason. rules_test.go holds the
// checkers, and rules_fail_test.go shows for each of them, on small sources
// written in the test, that it can fail.
//
// What it leaves to others: formatting (gofmt), suspicious code (go vet,
// staticcheck), data races (make race).
package arch
