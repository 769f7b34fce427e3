package answers

import (
	"os"
	"testing"
)

// Every script can be read and is written as -golden would write it, and every
// reason for an answer of our own is one of some script.
func TestScriptsAreWhole(t *testing.T) {
	paths, err := Scripts("../../testdata/answers")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, path := range paths {
		s, err := readScript(path)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, b := range s.blocks {
			used[b.reason] = true
		}
		if text, err := os.ReadFile(path); err != nil || s.text() != string(text) {
			t.Errorf("%s is not as it would be written (%v)", path, err)
		}
	}
	for reason := range onPurpose {
		if !used[reason] {
			t.Errorf("no script has an answer for the reason %q", reason)
		}
	}
}
