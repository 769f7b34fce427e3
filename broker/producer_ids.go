package broker

import (
	"context"

	"github.com/rotpeter/rotpeter/internal/mutant"
)

// producerIDs hands out producer ids from blocks that the metadata log has
// reserved, so that no id is ever given twice, whatever crashes.
type producerIDs struct {
	reserve func(context.Context) (first, count int64, err error)
	turn    chan struct{} // holds one token: who has it may read and write the fields below
	next    int64
	end     int64
}

func newProducerIDs(reserve func(context.Context) (first, count int64, err error)) *producerIDs {
	p := &producerIDs{reserve: reserve, turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

// take returns an id that nobody had before. It waits for the metadata log once a block.
func (p *producerIDs) take(ctx context.Context) (int64, error) {
	select {
	case <-p.turn:
	case <-ctx.Done():
		return -1, ctx.Err()
	}
	defer func() { p.turn <- struct{}{} }()
	if p.next == p.end {
		first, count, err := p.reserve(ctx)
		if err != nil {
			return -1, err
		}
		p.next, p.end = first, first+count
		if mutant.On(mutant.ProducerIDTwice) && first > 0 {
			p.next--
		}
	}
	id := p.next
	p.next++
	return id, nil
}
