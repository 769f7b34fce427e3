package group

import (
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// TestMatchRegexes: an expression matches whole names, whichever of its alternatives comes first.
func TestMatchRegexes(t *testing.T) {
	topics := []string{"a", "a.b", "ab", "abc", "b"}
	want := map[string][]string{
		"a":          {"a"},
		"a|ab":       {"a", "ab"},
		"ab?c?":      {"a", "ab", "abc"},
		"a.*?":       {"a", "a.b", "ab", "abc"},
		"b":          {"b"},
		".*b":        {"a.b", "ab", "b"},
		`\Qa.b`:      {"a.b"}, // a quotation without end
		`^ab$`:       {"ab"},
		"(?i)AB|(B)": {"ab", "b"},
		"":           nil,
		"(":          nil,
	}
	got := MatchRegexes(slices.Sorted(maps.Keys(want)), topics)
	for pattern, names := range want {
		if !slices.Equal(got[pattern], names) {
			t.Errorf("%q matches %q, want %q", pattern, got[pattern], names)
		}
	}
}

// TestCheckRegex has refusals in Kafka's words, where they are not those of Go.
func TestCheckRegex(t *testing.T) {
	for pattern, why := range map[string]string{
		"a)":               "regexp/syntax: internal error",
		"(?P<n>a)(?P<n>b)": "duplicate capture group name",
		"(":                "missing closing )",
	} {
		no := checkRegex(pattern)
		want := "SubscribedTopicRegex `" + pattern + "` is not a valid regular expression: " + why + "."
		if no == nil || no.err != kerr.InvalidRegularExpression || no.message != want {
			t.Errorf("%q is refused with %+v, want %q", pattern, no, want)
		}
	}
	for _, pattern := range []string{"", "a|b", `\Qa`, "(?P<n>a)(?P<m>b)", "(a)(b)"} {
		if no := checkRegex(pattern); no != nil {
			t.Errorf("%q is refused: %s", pattern, no.message)
		}
	}
}
