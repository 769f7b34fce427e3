package assignor

// uniform is the uniform assignor.
type uniform struct{}

func (uniform) Name() string { return "uniform" }

func (uniform) Assign(spec *Spec) ([]map[Topic][]int32, error) {
	if len(spec.Members) == 0 {
		return []map[Topic][]int32{}, nil
	}
	order := sortMembers(spec.Members, func(a, b *Member) int { return compareJava(a.ID, b.ID) })
	subs, err := subscribe(spec, order)
	if err != nil {
		return nil, err
	}
	p := newPlan(spec, order, subs)
	if spec.Homogeneous {
		p.fillQuotas()
	} else {
		p.balance()
	}
	return p.result(), nil
}

// nobody stands for the owner of a partition that no member has.
const nobody = int32(-1)

// plan is an assignment in the making. Members are numbered in the order of visit,
// partitions through all topics in the order of the topics.
type plan struct {
	spec  *Spec
	order []int32 // place in spec.Members of each member
	subs  *subscriptions
	first []int32 // number of the first partition of each topic, and of the end

	before  []int32 // who has each partition of those it may keep
	owner   []int32 // who gets it
	sizes   []int32 // number of partitions of each member in owner
	changed []bool  // members that lost what is not in before
}

// newPlan starts with what the members may keep of their present assignments.
func newPlan(spec *Spec, order []int32, subs *subscriptions) *plan {
	p := &plan{spec: spec, order: order, subs: subs, first: make([]int32, len(subs.topics)+1)}
	for t, n := range subs.counts {
		p.first[t+1] = p.first[t] + n
	}
	total := p.first[len(subs.topics)]
	p.before, p.owner = make([]int32, total), make([]int32, total)
	for i := range p.before {
		p.before[i] = nobody
	}
	p.sizes, p.changed = make([]int32, len(order)), make([]bool, len(order))
	for k, m := range order {
		for topic, partitions := range spec.Members[m].Assigned {
			if t, ok := subs.find(k, topic); ok {
				p.keep(int32(k), t, partitions)
			} else {
				p.changed[k] = true
			}
		}
	}
	copy(p.owner, p.before)
	return p
}

// keep notes what a member has of a topic. Partitions that do not exist or that
// another one has are left out.
func (p *plan) keep(k, t int32, partitions []int32) {
	for _, n := range partitions {
		if n < 0 || n >= p.subs.counts[t] || p.before[p.first[t]+n] != nobody {
			p.changed[k] = true
			continue
		}
		p.before[p.first[t]+n] = k
		p.sizes[k]++
	}
}

// give makes a member the owner of a partition.
func (p *plan) give(partition, k int32) {
	if old := p.owner[partition]; old != nobody {
		p.sizes[old]--
	}
	p.owner[partition] = k
	p.sizes[k]++
}

// result builds the assignments of those members for whom something changed.
func (p *plan) result() []map[Topic][]int32 {
	for i, k := range p.owner {
		if was := p.before[i]; was != k {
			p.changed[k] = true
			if was != nobody {
				p.changed[was] = true
			}
		}
	}
	assigned := make([]map[Topic][]int32, len(p.order))
	lists := make([][]int32, len(p.order)) // partitions of a member, topic after topic
	for k, m := range p.order {
		assigned[m] = p.spec.Members[m].Assigned
		if p.changed[k] {
			assigned[m] = make(map[Topic][]int32, min(int(p.sizes[k]), len(p.subs.of(k))))
			lists[k] = make([]int32, 0, p.sizes[k])
		}
	}
	start := make([]int32, len(p.order)) // where the present topic starts in the list
	var touched []int32                  // members with partitions of the present topic
	for t, topic := range p.subs.topics {
		touched = touched[:0]
		for n, k := range p.owner[p.first[t]:p.first[t+1]] {
			if !p.changed[k] {
				continue
			}
			if len(lists[k]) == int(start[k]) {
				touched = append(touched, k)
			}
			lists[k] = append(lists[k], int32(n))
		}
		for _, k := range touched {
			end := int32(len(lists[k]))
			assigned[p.order[k]][topic] = lists[k][start[k]:end:end]
			start[k] = end
		}
	}
	return assigned
}
