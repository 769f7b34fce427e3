package metadata

import (
	"encoding/binary"
	"maps"
	"slices"
	"sort"
	"strings"
)

// The containers below are persistent: an older version stays valid while a newer
// one is made. They are cut into pieces, and each piece carries the generation of
// the draft that made it. A draft changes pieces of its own generation in place and
// copies any other piece first. Publishing an image raises the draft's generation,
// so that nothing published changes; a load that publishes nothing copies nothing.

// pieces is how many maps an index is cut into. With 10,000 topics a change copies
// one map of about 40 entries and 2 KiB of pointers.
const pieces = 256

// index finds topics by a key.
type index[K comparable] struct {
	gen  uint64
	part [pieces]*indexPart[K] // nil: empty
}

type indexPart[K comparable] struct {
	gen uint64
	m   map[K]*Topic
}

// get returns the topic under k, nil if there is none. h is the hash of k.
func (x *index[K]) get(h uint8, k K) *Topic {
	if p := x.part[h]; p != nil {
		return p.m[k]
	}
	return nil
}

// writable returns the part for h as one that generation gen may change, in an
// index that it may change.
func (x *index[K]) writable(gen uint64, h uint8) (*index[K], map[K]*Topic) {
	if x.gen != gen {
		c := *x
		c.gen = gen
		x = &c
	}
	p := x.part[h]
	if p == nil || p.gen != gen {
		m := map[K]*Topic{}
		if p != nil {
			m = maps.Clone(p.m)
		}
		p = &indexPart[K]{gen: gen, m: m}
		x.part[h] = p
	}
	return x, p.m
}

func (x *index[K]) put(gen uint64, h uint8, k K, t *Topic) *index[K] {
	x, m := x.writable(gen, h)
	m[k] = t
	return x
}

func (x *index[K]) remove(gen uint64, h uint8, k K) *index[K] {
	x, m := x.writable(gen, h)
	delete(m, k)
	return x
}

// hashName is FNV-1a folded to 8 bits.
func hashName(name string) uint8 {
	h := uint32(2166136261)
	for i := 0; i < len(name); i++ {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return uint8(h>>24 ^ h>>16 ^ h>>8 ^ h)
}

func hashID(id [16]byte) uint8 {
	h := (binary.LittleEndian.Uint64(id[:8]) ^ binary.LittleEndian.Uint64(id[8:])) * 0x9e3779b97f4a7c15
	return uint8(h >> 56)
}

// maxChunk is how many topics a chunk of the sorted list holds before it is split.
const maxChunk = 256

// sorted is the list of topics by name, in chunks that are never empty.
type sorted struct {
	gen    uint64
	chunks []*sortedChunk
}

type sortedChunk struct {
	gen    uint64
	topics []*Topic
}

// find returns the chunk in which a name is or belongs, its place there, and
// whether it is there. The list must not be empty.
func (s *sorted) find(name string) (chunk, at int, found bool) {
	chunk = sort.Search(len(s.chunks), func(i int) bool { return s.chunks[i].topics[0].Name > name })
	if chunk > 0 {
		chunk--
	}
	at, found = slices.BinarySearchFunc(s.chunks[chunk].topics, name, func(t *Topic, name string) int {
		return strings.Compare(t.Name, name)
	})
	return chunk, at, found
}

// writable returns the list and its chunk i as ones that generation gen may change.
func (s *sorted) writable(gen uint64, i int) (*sorted, *sortedChunk) {
	if s.gen != gen {
		s = &sorted{gen: gen, chunks: slices.Clone(s.chunks)}
	}
	if s.chunks[i].gen != gen {
		s.chunks[i] = &sortedChunk{gen: gen, topics: slices.Clone(s.chunks[i].topics)}
	}
	return s, s.chunks[i]
}

// put inserts a topic, or replaces the one of the same name.
func (s *sorted) put(gen uint64, t *Topic) *sorted {
	if len(s.chunks) == 0 {
		return &sorted{gen: gen, chunks: []*sortedChunk{{gen: gen, topics: []*Topic{t}}}}
	}
	i, at, found := s.find(t.Name)
	s, c := s.writable(gen, i)
	if found {
		c.topics[at] = t
		return s
	}
	c.topics = slices.Insert(c.topics, at, t)
	if len(c.topics) > maxChunk {
		half := len(c.topics) / 2
		upper := &sortedChunk{gen: gen, topics: slices.Clone(c.topics[half:])}
		c.topics = slices.Delete(c.topics, half, len(c.topics))
		s.chunks = slices.Insert(s.chunks, i+1, upper)
	}
	return s
}

// remove takes out the topic of that name, if it is there.
func (s *sorted) remove(gen uint64, name string) *sorted {
	if len(s.chunks) == 0 {
		return s
	}
	i, at, found := s.find(name)
	if !found {
		return s
	}
	s, c := s.writable(gen, i)
	c.topics = slices.Delete(c.topics, at, at+1)
	if len(c.topics) == 0 {
		s.chunks = slices.Delete(s.chunks, i, i+1)
	}
	return s
}
