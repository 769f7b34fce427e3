package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// groupJudge holds the events of a group, one topic, against what a group
// promises: a partition has one owner at a time; its owner gets its records in
// order, from a place that the group had reached and not before the last
// commit; a paused one gets none.
type groupJudge struct {
	partitions map[int32]*judgedPartition
	got        map[string]int // records by member
	records    int
	repeats    int // records that came before
	complaints []string

	mayLose bool                // a member may lose partitions
	doomed  map[groupTurn]int64 // turns that will end with the loss of the partition, and when
}

// groupTurn is a time that a member has a partition.
type groupTurn struct {
	member    string
	partition int32
	since     int64
}

type judgedPartition struct {
	owner     string
	since     int64 // the owner has it
	next      int64 // what its owner gets next, -1 = unknown
	end       int64 // behind the highest record that came
	committed int64
	paused    bool
	fresh     int // records since it has this owner
}

// maxComplaints is enough of them.
const maxComplaints = 5

func newGroupJudge(partitions int) *groupJudge {
	j := &groupJudge{partitions: map[int32]*judgedPartition{}, got: map[string]int{}}
	for p := range partitions {
		j.partitions[int32(p)] = &judgedPartition{next: -1}
	}
	return j
}

func (j *groupJudge) complain(e groupEvent, format string, args ...any) {
	if len(j.complaints) < maxComplaints {
		j.complaints = append(j.complaints, fmt.Sprintf("%s at %d.%06d: ", e.Member, e.At/1e6%1000, e.At%1e6)+fmt.Sprintf(format, args...))
	}
}

// see takes the next event.
func (j *groupJudge) see(e groupEvent) {
	switch e.Event {
	case "assigned":
		for _, n := range e.Partitions {
			p := j.partitions[n]
			if p.owner != "" && p.owner != e.Member && j.doomed[groupTurn{p.owner, n, p.since}] == 0 {
				j.complain(e, "assigned partition %d, which %s has", n, p.owner)
			}
			p.owner, p.since, p.next, p.paused, p.fresh = e.Member, e.At, -1, false, 0
		}
	case "may-lose":
		j.mayLose = true
	case "revoked", "lost":
		if e.Event == "lost" && !j.mayLose {
			j.complain(e, "lost partitions %v", e.Partitions)
		}
		for _, n := range e.Partitions {
			if p := j.partitions[n]; p.owner == e.Member {
				p.owner = ""
			}
		}
	case "killed", "closed":
		for _, p := range j.partitions {
			if p.owner == e.Member {
				p.owner = ""
			}
		}
	case "paused", "resumed":
		for _, n := range e.Partitions {
			if p := j.partitions[n]; p.owner == e.Member {
				p.paused = e.Event == "paused"
			}
		}
	case "sought":
		if p := j.partitions[e.Partition]; p.owner == e.Member {
			p.next = e.Offset
		}
	case "committed":
		for n, o := range e.Offsets {
			j.partitions[n].committed = o
		}
	case "record":
		j.record(e)
	}
}

func (j *groupJudge) record(e groupEvent) {
	p := j.partitions[e.Partition]
	if want := groupKey(e.Partition, e.Offset); e.Key != want {
		j.complain(e, "partition %d offset %d has the key %q, want %q", e.Partition, e.Offset, e.Key, want)
	}
	switch {
	case p.owner != e.Member && j.zombie(e):
		j.records++
		j.repeats++
		return
	case p.owner != e.Member:
		j.complain(e, "got offset %d of partition %d, which %q has", e.Offset, e.Partition, p.owner)
		return
	case p.paused:
		j.complain(e, "got offset %d of partition %d, which is paused", e.Offset, e.Partition)
	case p.next >= 0 && e.Offset != p.next:
		j.complain(e, "got offset %d of partition %d, want %d", e.Offset, e.Partition, p.next)
	case p.next < 0 && e.Offset > p.end:
		j.complain(e, "begins with offset %d of partition %d: the group had got to %d", e.Offset, e.Partition, p.end)
	case p.next < 0 && e.Offset < p.committed:
		j.complain(e, "begins with offset %d of partition %d: the group had committed %d", e.Offset, e.Partition, p.committed)
	}
	j.records++
	if e.Offset < p.end {
		j.repeats++
	}
	j.got[e.Member]++
	p.fresh++
	p.next = e.Offset + 1
	p.end = max(p.end, p.next)
}

// zombie says whether a record came to a member that did not know yet that its session had ended.
func (j *groupJudge) zombie(e groupEvent) bool {
	for turn, end := range j.doomed {
		if turn.member == e.Member && turn.partition == e.Partition && turn.since <= e.At && e.At <= end {
			return true
		}
	}
	return false
}

// owned are the partitions of a member.
func (j *groupJudge) owned(member string) []int32 {
	var out []int32
	for _, n := range slices.Sorted(maps.Keys(j.partitions)) {
		if j.partitions[n].owner == member {
			out = append(out, n)
		}
	}
	return out
}

// judgeEvents judges all events of a group in the order of the clock. It knows from the start which members will hear
// that they lost partitions: by then others may have them.
func judgeEvents(events []groupEvent, partitions int) *groupJudge {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b groupEvent) int { return cmp.Compare(a.At, b.At) })
	j := newGroupJudge(partitions)
	j.doomed = doomedTurns(events)
	for _, e := range events {
		j.see(e)
	}
	return j
}

// doomedTurns are the turns that end with the member's losing the partition, and when they do.
func doomedTurns(events []groupEvent) map[groupTurn]int64 {
	type place struct {
		member    string
		partition int32
	}
	since, doomed := map[place]int64{}, map[groupTurn]int64{}
	for _, e := range events {
		for _, n := range e.Partitions {
			switch at := (place{e.Member, n}); e.Event {
			case "assigned":
				since[at] = e.At
			case "lost":
				doomed[groupTurn{e.Member, n, since[at]}] = e.At
			}
		}
	}
	return doomed
}

// groupKey is the key of each record in a group's topic: it says where it is.
func groupKey(partition int32, offset int64) string { return fmt.Sprintf("%d-%d", partition, offset) }
