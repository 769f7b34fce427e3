package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// scriptedEvents are the events of lines "member event partitions|partition offset", a microsecond apart.
func scriptedEvents(t *testing.T, lines ...string) []groupEvent {
	var out []groupEvent
	for i, line := range lines {
		member, rest, _ := strings.Cut(line, " ")
		name, args, _ := strings.Cut(rest, " ")
		e := groupEvent{At: int64(i + 1), Member: member, Event: name}
		var numbers []int32
		if args != "" {
			if err := json.Unmarshal([]byte("["+strings.ReplaceAll(args, " ", ",")+"]"), &numbers); err != nil {
				t.Fatal(err)
			}
		}
		switch name {
		case "record", "sought":
			e.Partition, e.Offset = numbers[0], int64(numbers[1])
			e.Key = groupKey(e.Partition, e.Offset)
		case "committed":
			e.Offsets = map[int32]int64{numbers[0]: int64(numbers[1])}
		default:
			e.Partitions = numbers
		}
		out = append(out, e)
	}
	return out
}

// The judge sees what a broken group does, and lets pass what a group may do.
func TestGroupJudge(t *testing.T) {
	for name, k := range map[string]struct {
		script []string
		want   string // part of the one complaint, empty = none
	}{
		"one member":        {[]string{"a assigned 0", "a record 0 0", "a record 0 1", "a committed 0 2", "a revoked 0", "a assigned 0", "a record 0 2"}, ""},
		"again from commit": {[]string{"a assigned 0", "a record 0 0", "a record 0 1", "a committed 0 1", "a killed", "b assigned 0", "b record 0 1"}, ""},
		"two owners":        {[]string{"a assigned 0 1", "b assigned 1"}, "assigned partition 1, which a has"},
		"killed owner":      {[]string{"a assigned 0 1", "a killed", "b assigned 1"}, ""},
		"a gap":             {[]string{"a assigned 0", "a record 0 0", "a record 0 2"}, "got offset 2 of partition 0, want 1"},
		"a repeat":          {[]string{"a assigned 0", "a record 0 0", "a record 0 0"}, "got offset 0 of partition 0, want 1"},
		"a lost record":     {[]string{"a assigned 0", "a record 0 0", "a revoked 0", "b assigned 0", "b record 0 2"}, "the group had got to 1"},
		"before the commit": {[]string{"a assigned 0", "a record 0 0", "a record 0 1", "a committed 0 2", "a revoked 0", "b assigned 0", "b record 0 0"}, "the group had committed 2"},
		"not its own":       {[]string{"a assigned 0", "a revoked 0", "a record 0 0"}, `which "" has`},
		"paused":            {[]string{"a assigned 0 1", "a paused 0", "a record 1 0", "a record 0 0"}, "which is paused"},
		"resumed":           {[]string{"a assigned 0", "a paused 0", "a resumed 0", "a record 0 0"}, ""},
		"sought":            {[]string{"a assigned 0", "a record 0 0", "a record 0 1", "a sought 0 0", "a record 0 0", "a record 0 1"}, ""},
		"sought elsewhere":  {[]string{"a assigned 0", "a record 0 0", "a record 0 1", "a sought 0 0", "a record 0 1"}, "got offset 1 of partition 0, want 0"},
		"lost":              {[]string{"a assigned 0", "a lost 0"}, "lost partitions [0]"},
		"lost by restart":   {[]string{"a assigned 0", "- may-lose", "b assigned 0", "a record 0 0", "b record 0 0", "a lost 0", "b record 0 1"}, ""},
		"after the loss":    {[]string{"a assigned 0", "- may-lose", "a lost 0", "a record 0 0"}, `which "" has`},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(judgeEvents(scriptedEvents(t, k.script...), 2).complaints, "; ")
			if k.want == "" && got != "" || !strings.Contains(got, k.want) {
				t.Errorf("complaints %q, want %q", got, k.want)
			}
		})
	}
}

// A record that is not where its key says was put there by nobody.
func TestGroupJudgeKey(t *testing.T) {
	events := scriptedEvents(t, "a assigned 0", "a record 0 0")
	events[1].Key = groupKey(1, 0)
	if got := judgeEvents(events, 2).complaints; len(got) != 1 || !strings.Contains(got[0], `key "1-0", want "0-0"`) {
		t.Errorf("complaints %q", got)
	}
}
