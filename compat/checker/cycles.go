package checker

// checkCycles looks for transactions that read of each other in a circle (G1c): each must then have been committed
// before the other one was, for readers with read_committed see only what is committed.
func (h *History) checkCycles() {
	h.facts[Cycle] = 0
	edges := map[uint32][]uint32{}
	for _, id := range sorted(h.txns) {
		for _, from := range h.txns[id].reads {
			edges[from] = append(edges[from], id)
			h.fact(Cycle)
		}
	}
	for _, component := range components(edges) {
		v := Violation{Rule: Cycle, Partition: -1, Text: "transactions read of each other in a circle"}
		fresh := false
		for _, id := range component {
			t := h.txns[id]
			fresh = fresh || !t.reported
			t.reported = true
			v.Clients = append(v.Clients, t.client)
			v.Values = append(v.Values, t.values[:min(len(t.values), 3)]...)
		}
		if fresh {
			h.breach(v)
		}
	}
	if h.finished {
		h.writeOnly = int64(len(components(h.writeEdges(edges))))
	}
}

// writeEdges adds who wrote behind whom in a partition.
func (h *History) writeEdges(edges map[uint32][]uint32) map[uint32][]uint32 {
	all := map[uint32][]uint32{}
	for id, to := range edges {
		all[id] = append(all[id], to...)
	}
	for i := range h.parts {
		before := uint32(0)
		for _, v := range h.parts[i].slots {
			if v.Writer() == 0 {
				continue
			}
			id := h.send(v).txn
			if id != 0 && before != 0 && id != before {
				all[before] = append(all[before], id)
			}
			if id != 0 {
				before = id
			}
		}
	}
	return all
}

// components are the strongly connected components with more than one node (Tarjan), without recursion.
func components(edges map[uint32][]uint32) [][]uint32 {
	type frame struct {
		node uint32
		edge int
	}
	var (
		found   [][]uint32
		stack   []uint32
		index   = map[uint32]int{} // from 1 on
		low     = map[uint32]int{}
		onStack = map[uint32]bool{}
	)
	enter := func(n uint32) frame {
		index[n], low[n], onStack[n] = len(index)+1, len(index)+1, true
		stack = append(stack, n)
		return frame{node: n}
	}
	for _, root := range sorted(edges) {
		if index[root] != 0 {
			continue
		}
		for path := []frame{enter(root)}; len(path) > 0; {
			f := &path[len(path)-1]
			if f.edge < len(edges[f.node]) {
				to := edges[f.node][f.edge]
				f.edge++
				if index[to] == 0 {
					path = append(path, enter(to))
				} else if onStack[to] {
					low[f.node] = min(low[f.node], index[to])
				}
				continue
			}
			n := f.node
			path = path[:len(path)-1]
			if len(path) > 0 {
				parent := path[len(path)-1].node
				low[parent] = min(low[parent], low[n])
			}
			if low[n] != index[n] {
				continue
			}
			at := len(stack) - 1
			for stack[at] != n {
				at--
			}
			if len(stack)-at > 1 {
				found = append(found, append([]uint32(nil), stack[at:]...))
			}
			for _, m := range stack[at:] {
				onStack[m] = false
			}
			stack = stack[:at]
		}
	}
	return found
}
