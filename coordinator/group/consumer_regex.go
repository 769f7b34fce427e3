package group

import (
	"errors"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// regexPause is the least time between two matchings of a group's regular expressions, in milliseconds
// (GroupMetadataManager.REGEX_BATCH_REFRESH_MIN_INTERVAL_MS).
const regexPause = 10_000

// regexChange is what a heartbeat does to the regular expressions of a group.
type regexChange int8

const (
	regexSame     regexChange = iota
	regexUpdated              // the member has another one, which is not matched yet
	regexResolved             // the member has another one, or none, and what it matches is known
)

// updateRegexes notes that a member has another regular expression than before, and has all of the group matched
// against the topics again if that is due (GroupMetadataManager.maybeUpdateRegularExpressions).
func (t *turn) updateRegexes(g *consumerGroup, was, now *consumerMember, caller any) (regexChange, *refusal) {
	before, after := was.pattern(), now.pattern()
	change, due := regexSame, false
	if !sameString(was.regex, now.regex) {
		change = regexUpdated
		if before != "" && g.regexes[before] == 1 {
			t.note(consumerKey(consumerRegexKey, g.id, before), nil)
		}
		switch {
		case after != "" && g.regexes[after] == 0:
			if no := checkRegex(after); no != nil {
				return change, no
			}
			due = true
		case after != "" && g.resolved[after] != nil, after == "" && before != "":
			change = regexResolved
		}
	}
	if !due && len(g.regexes) == 0 || t.resolving[g.id] {
		return change, nil
	}
	at, version, any := g.lastResolved()
	millis := t.now.UnixMilli()
	if any && millis <= at+regexPause {
		return change, nil
	}
	wanted := g.regexes
	if before != after {
		wanted = maps.Clone(g.regexes)
		if before != "" {
			countName(wanted, before, -1)
		}
		if after != "" {
			countName(wanted, after, 1)
		}
	}
	due = due || len(wanted) != len(g.resolved) || version < t.newTopicsAt || millis > at+t.o.RegexRefreshInterval.Milliseconds()
	if due && len(wanted) > 0 {
		t.resolving[g.id] = true
		t.out.Errands = append(t.out.Errands, ResolveRegexes{Group: g.id, Regexes: slices.Sorted(maps.Keys(wanted)), Caller: caller})
	}
	return change, nil
}

// checkRegex checks that a regular expression is one. The syntax is that of RE2, here and in Kafka.
func checkRegex(pattern string) *refusal {
	why := ""
	_, err := compileRegex(pattern)
	var bad *syntax.Error
	switch {
	case errors.As(err, &bad) && bad.Code == syntax.ErrUnexpectedParen:
		why = syntax.ErrInternalError.String() // as Kafka's library has it
	case errors.As(err, &bad):
		why = bad.Code.String()
	case err != nil:
		why = err.Error()
	default:
		return nil
	}
	return refuse(kerr.InvalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %s.", pattern, why)
}

// errSameName is what Kafka's library refuses and Go's takes.
var errSameName = errors.New("duplicate capture group name")

// compileRegex makes a regular expression that finds the longest of what it matches: where it matches a whole name, that
// is the whole name.
func compileRegex(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, name := range re.SubexpNames() {
		if seen[name] && name != "" {
			return nil, errSameName
		}
		seen[name] = true
	}
	re.Longest()
	return re, nil
}

// matchesWhole reports whether a regular expression of compileRegex matches a whole name.
func matchesWhole(re *regexp.Regexp, name string) bool {
	found := re.FindStringIndex(name)
	return found != nil && found[0] == 0 && found[1] == len(name)
}

// MatchRegexes finds the topics whose whole names the regular expressions match. Those that are none match nothing. The
// names of a result are in the order of topics.
func MatchRegexes(patterns, topics []string) map[string][]string {
	matched := make(map[string][]string, len(patterns))
	for _, pattern := range patterns {
		matched[pattern] = nil
		re, err := compileRegex(pattern)
		if err != nil {
			continue // it was checked when the member came with it; a record of somebody else's may have any
		}
		prefix, whole := re.LiteralPrefix()
		for _, topic := range topics {
			if strings.HasPrefix(topic, prefix) && (whole && topic == prefix || !whole && matchesWhole(re, topic)) {
				matched[pattern] = append(matched[pattern], topic)
			}
		}
	}
	return matched
}

// regexesResolved takes what the regular expressions of a group have matched. The group gets a new epoch if that is
// something else than before (GroupMetadataManager.handleRegularExpressionsResult).
func (t *turn) regexesResolved(e RegexesResolved) {
	delete(t.resolving, e.Group)
	g := t.consumers[e.Group]
	if g == nil {
		return
	}
	topics, bump := cloneCounts(g.topics), false
	for _, pattern := range slices.Sorted(maps.Keys(e.Matched)) {
		if g.regexes[pattern] == 0 {
			continue
		}
		now := &resolvedRegex{topics: sortedNames(e.Matched[pattern]), version: e.Version, at: e.Asked.UnixMilli()}
		var before []string
		if old := g.resolved[pattern]; old != nil {
			before = old.topics
		}
		if !slices.Equal(before, now.topics) {
			bump = true
			for _, topic := range before {
				countTopic(topics, topic, 0, -1)
			}
			for _, topic := range now.topics {
				countTopic(topics, topic, 0, 1)
			}
		}
		t.note(consumerKey(consumerRegexKey, g.id, pattern), regexValue(now))
	}
	if hash := t.hashTopics(topics); bump || hash != g.hash {
		t.noteEpoch(g.id, g.epoch+1, hash)
		g.fresh, g.freshFor = true, g.epoch+1
	}
}
