package checker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// longestFetch is how long, in nanoseconds, a question for an offset may take before its answer is told.
const longestFetch = int64(90e9)

type groupPartition struct {
	group     string
	partition int32
}

// commit is one offset commit of a group for one partition.
type commit struct {
	id         uint32
	offset     int64
	client     string
	begin, end int64 // end is never until it was acknowledged
	outcome    Outcome
	restarts   int64 // of the broker, when it was acknowledged
}

// fetch is one answer to the question for a group's offset.
type fetch struct {
	id         uint32 // of the commit that the answer names, 0 = no offset
	offset     int64
	begin, end int64
	restarts   int64
}

// register is a group's offset of one partition: a value that is set and read.
type register struct {
	commits []commit
	fetches []fetch // to be judged
}

func (h *History) register(at groupPartition) *register {
	if h.groups[at] == nil {
		h.groups[at] = &register{}
	}
	return h.groups[at]
}

// Commit tells that a commit begins; its number is unique and written into the commit's metadata.
// In a transaction (txn is not 0) it counts from when its commit is asked for.
func (h *History) Commit(id uint32, client, group string, partition int32, offset int64, txn uint32, now int64) {
	at := groupPartition{group, partition}
	c := commit{id: id, offset: offset, client: client, begin: now, end: never}
	if txn != 0 {
		c.begin = never
		t := h.txn(txn)
		t.commits = append(t.commits, id)
	}
	h.commits[id] = at
	r := h.register(at)
	r.commits = append(r.commits, c)
}

func (h *History) findCommit(id uint32) *commit {
	at, ok := h.commits[id]
	if !ok {
		return nil
	}
	r := h.groups[at]
	i := slices.IndexFunc(r.commits, func(c commit) bool { return c.id == id })
	if i < 0 {
		return nil
	}
	return &r.commits[i]
}

func (h *History) askedCommit(id uint32, now int64) {
	if c := h.findCommit(id); c != nil {
		c.begin = now
	}
}

// Committed tells how a commit ended.
func (h *History) Committed(id uint32, outcome Outcome, now int64) {
	c := h.findCommit(id)
	if c == nil {
		return
	}
	c.outcome = outcome
	if outcome == OK {
		c.end, c.restarts = now, h.restarts
	}
}

// Fetched tells what OffsetFetch, asked to wait for stable offsets, answered between two times; id is 0 if the group has no offset.
func (h *History) Fetched(group string, partition int32, id uint32, offset, begin, end int64) {
	r := h.register(groupPartition{group, partition})
	r.fetches = append(r.fetches, fetch{id, offset, begin, end, h.restarts})
}

// checkFetches judges the answers that ended before a time.
func (h *History) checkFetches(before, now int64) {
	places := slices.SortedFunc(maps.Keys(h.groups), func(a, b groupPartition) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.partition, b.partition))
	})
	for _, at := range places {
		r, oldest := h.groups[at], now-longestFetch
		r.fetches = slices.DeleteFunc(r.fetches, func(f fetch) bool {
			if f.end >= before {
				oldest = min(oldest, f.begin)
				return false
			}
			h.checkFetch(at, r, f)
			return true
		})
		h.forgetCommits(r, oldest)
	}
}

func (h *History) checkFetch(at groupPartition, r *register, f fetch) {
	var latest *commit // acknowledged before the fetch began, the last one to begin
	for i := range r.commits {
		if c := &r.commits[i]; c.outcome == OK && c.end < f.begin && (latest == nil || c.begin > latest.begin) {
			latest = c
		}
	}
	if latest != nil && latest.restarts < f.restarts {
		h.fact(LostCommit)
	}
	breach := func(rule Rule, c *commit, text string) {
		v := Violation{Rule: rule, Partition: at.partition, Offsets: []int64{f.offset}, Clients: []string{at.group}, Text: fmt.Sprintf("group %s: %s (fetched: commit %d)", at.group, text, f.id)}
		if c != nil {
			v.Clients, v.Offsets = append(v.Clients, c.client), append(v.Offsets, c.offset)
			v.Text += fmt.Sprintf(", commit %d of offset %d", c.id, c.offset)
		}
		h.breach(v)
	}
	if f.id == 0 {
		if latest != nil {
			breach(LostCommit, latest, "a commit was acknowledged, and the group has no offset")
		}
		return
	}
	i := slices.IndexFunc(r.commits, func(c commit) bool { return c.id == f.id })
	if i < 0 {
		breach(LostCommit, latest, "nobody made the commit that is fetched, or others were acknowledged since")
		return
	}
	c := &r.commits[i]
	switch {
	case c.outcome == Failed || c.begin > f.end:
		breach(AbortedRead, c, "the commit that is fetched failed, was aborted, or was not yet asked for")
	case c.offset != f.offset:
		breach(LostCommit, c, "the offset is another one than was committed")
	case latest != nil && latest.id != c.id && c.end < latest.begin:
		breach(LostCommit, latest, "the commit that is fetched is older than one that was acknowledged before")
	}
}

// forgetCommits drops those that no fetch which began at a time or later may show.
func (h *History) forgetCommits(r *register, oldest int64) {
	begin := int64(-1)
	for _, c := range r.commits {
		if c.outcome == OK && c.end < oldest {
			begin = max(begin, c.begin)
		}
	}
	r.commits = slices.DeleteFunc(r.commits, func(c commit) bool {
		gone := c.outcome == OK && c.end < begin
		if gone {
			delete(h.commits, c.id)
		}
		return gone
	})
}
