package assignor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// shape is a group to measure.
type shape struct {
	name          string
	topics, parts int
	members       int
	subscribe     func(r *rand.Rand, member int, all []Topic) []Topic // nil: all the same
}

func shapes() []shape {
	return []shape{
		{"1x10000/same", 1, 10_000, 1000, nil},
		{"100x100/same", 100, 100, 1000, nil},
		{"10000x1/same", 10_000, 1, 1000, nil},
		{"100x100/half", 100, 100, 1000, func(r *rand.Rand, _ int, all []Topic) []Topic {
			return slices.DeleteFunc(slices.Clone(all), func(Topic) bool { return r.IntN(2) == 0 })
		}},
		{"100x100/onediffers", 100, 100, 1000, oneDiffers},
		{"10000x1/onediffers", 10_000, 1, 1000, oneDiffers},
	}
}

// oneDiffers is a group that changes its subscription, member by member.
func oneDiffers(_ *rand.Rand, member int, all []Topic) []Topic {
	if member == 500 {
		return all[1:]
	}
	return all
}

func (s shape) spec() *Spec {
	r := rand.New(rand.NewPCG(1, 2))
	var all []Topic
	for range s.topics {
		all = append(all, id(int64(r.Uint64()), int64(r.Uint64())))
	}
	spec := &Spec{Homogeneous: s.subscribe == nil, Partitions: func(Topic) int32 { return int32(s.parts) }}
	for i := range s.members {
		m := Member{ID: fmt.Sprintf("%016x-consumer-%d", r.Uint64(), i), Topics: all}
		if s.subscribe != nil {
			m.Topics = s.subscribe(r, i, all)
		}
		spec.Members = append(spec.Members, m)
	}
	return spec
}

// BenchmarkAssign assigns a group of 1,000 members: full, from nothing; join and
// leave, when one member came or went; same, when nothing changed.
func BenchmarkAssign(b *testing.B) {
	for _, a := range []Assignor{Uniform(), Range()} {
		for _, s := range shapes() {
			spec := s.spec()
			b.Run(fmt.Sprintf("%s/%s/full", a.Name(), s.name), func(b *testing.B) { benchmark(b, a, spec) })

			without := *spec
			without.Members = slices.Clone(spec.Members[:s.members-1])
			settle(b, a, &without)
			joined := *spec
			joined.Members = append(slices.Clone(without.Members), spec.Members[s.members-1])
			b.Run(fmt.Sprintf("%s/%s/join", a.Name(), s.name), func(b *testing.B) { benchmark(b, a, &joined) })

			settle(b, a, &joined)
			b.Run(fmt.Sprintf("%s/%s/same", a.Name(), s.name), func(b *testing.B) { benchmark(b, a, &joined) })

			left := joined
			left.Members = joined.Members[1:]
			b.Run(fmt.Sprintf("%s/%s/leave", a.Name(), s.name), func(b *testing.B) { benchmark(b, a, &left) })
		}
	}
}

func benchmark(b *testing.B, a Assignor, spec *Spec) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Assign(spec); err != nil {
			b.Fatal(err)
		}
	}
}

// settle makes the assignment of a group its present one.
func settle(b *testing.B, a Assignor, spec *Spec) {
	got, err := a.Assign(spec)
	if err != nil {
		b.Fatal(err)
	}
	for i := range got {
		spec.Members[i].Assigned = got[i]
	}
}
