package checker

import "fmt"

// key is what one client wrote under a key of a compacted topic, one after the other.
type key struct {
	puts []put
	last uint32 // number that the final read saw last, 0 = no value
	seen map[uint32]bool
}

type put struct {
	tombstone bool
	outcome   Outcome
}

// Put tells that the next value of a key is about to be written, none if it is a tombstone; the values of a key count from 1.
func (h *History) Put(name string, tombstone bool) (number uint32) {
	k := h.keys[name]
	if k == nil {
		k = &key{seen: map[uint32]bool{}}
		h.keys[name] = k
	}
	k.puts = append(k.puts, put{tombstone: tombstone})
	return uint32(len(k.puts))
}

// PutDone tells how it ended.
func (h *History) PutDone(name string, number uint32, outcome Outcome) {
	h.keys[name].puts[number-1].outcome = outcome
}

// Kept tells that the final read, from the first offset to the last, found a value of a key; 0 for a tombstone.
func (h *History) Kept(name string, number uint32) {
	k := h.keys[name]
	if k == nil || int(number) > len(k.puts) {
		h.breach(Violation{Rule: UnsentRead, Partition: -1, Text: fmt.Sprintf("value %d of key %s was never written", number, name)})
		return
	}
	k.last = number
	k.seen[number] = true
}

// Removed answers how many values of keys compaction removed.
func (h *History) Removed() (n int64) {
	for _, k := range h.keys {
		for i, p := range k.puts {
			if p.outcome == OK && !p.tombstone && !k.seen[uint32(i+1)] {
				n++
			}
		}
	}
	return n
}

// checkKeys holds the last value of each key against what was written. It is a fact for the rule where an
// earlier value is gone.
func (h *History) checkKeys() {
	for _, name := range sorted(h.keys) {
		k := h.keys[name]
		acked := 0 // the last number that was acknowledged
		for i, p := range k.puts {
			if p.outcome == OK {
				acked = i + 1
			}
		}
		gone := false
		for i := range acked - 1 {
			gone = gone || !k.puts[i].tombstone && k.puts[i].outcome == OK && !k.seen[uint32(i+1)]
		}
		if gone {
			h.fact(LostKey)
		}
		if k.may(acked) {
			continue
		}
		h.breach(Violation{Rule: LostKey, Partition: -1, Text: fmt.Sprintf("key %s: value %d was acknowledged as the last one, and the final read ends with %d (0 = none)", name, acked, k.last)})
	}
}

// may says whether what was read last may be the last, when so many values are known to be written: that one, or a
// later one of unknown end.
func (k *key) may(acked int) bool {
	if k.last == 0 {
		if acked == 0 || k.puts[acked-1].tombstone {
			return true
		}
		for _, p := range k.puts[acked:] {
			if p.tombstone && p.outcome != Failed {
				return true
			}
		}
		return false
	}
	return int(k.last) == acked || int(k.last) > acked && k.puts[k.last-1].outcome != Failed
}
