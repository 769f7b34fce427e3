package checker

import "fmt"

// ProducerIDs remembers who was given which producer id, for as long as the broker's data lives.
// The zero value is empty.
type ProducerIDs struct {
	owners map[int64]string
}

// ProducerID tells that InitProducerId gave an id to an owner: a transactional id, or a name of its own for each
// request without one.
func (h *History) ProducerID(id int64, owner string) {
	h.fact(ReusedProducer)
	if h.producers.owners == nil {
		h.producers.owners = map[int64]string{}
	}
	before, ok := h.producers.owners[id]
	if ok && before != owner {
		h.breach(Violation{Rule: ReusedProducer, Partition: -1, Clients: []string{before, owner}, Text: fmt.Sprintf("the producer id %d was given to both", id)})
	}
	h.producers.owners[id] = owner
}
