package assignor

// fillQuotas spreads the partitions evenly over members that all subscribe to the
// same topics. Each keeps what it has up to its quota; what is free then fills those
// below their quota, in the order of visit (Kafka's UniformHomogeneousAssignmentBuilder).
func (p *plan) fillQuotas() {
	members := int32(len(p.order))
	quota, extra := int32(len(p.owner))/members, int32(len(p.owner))%members

	var free []int32 // partitions to give, in this order
	for i, k := range p.owner {
		if k == nobody {
			free = append(free, int32(i))
		}
	}
	missing := make([]int32, members) // what each member gets on top
	held := p.byOwner()
	for k := range members {
		limit, more := quota, extra > 0 // more: the quota holds one of the extra partitions
		if more {
			limit++
		}
		var mine []int32
		mine, held = held[:p.sizes[k]], held[p.sizes[k]:]
		kept := min(int32(len(mine)), limit)
		for _, i := range mine[kept:] {
			p.owner[i] = nobody
			free = append(free, i)
		}
		p.sizes[k] = kept
		missing[k] = limit - kept
		// An extra partition is left to a member that has one already, unless only as
		// many members are left as there are extra partitions.
		if missing[k] > 0 && more && members-k > extra {
			missing[k]--
			more = false
		}
		if more {
			extra--
		}
	}
	for k := range members {
		for _, i := range free[:missing[k]] {
			p.give(i, k)
		}
		free = free[missing[k]:]
	}
}

// byOwner gives the partitions that have an owner, ordered by owner and partition.
func (p *plan) byOwner() []int32 {
	next := make([]int32, len(p.sizes)) // where the next partition of a member goes
	var held int32
	for k, n := range p.sizes {
		next[k] = held
		held += n
	}
	list := make([]int32, held)
	for i, k := range p.owner {
		if k != nobody {
			list[next[k]] = int32(i)
			next[k]++
		}
	}
	return list
}
