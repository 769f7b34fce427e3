package broker

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// No producer id is handed out twice: not at the border of two blocks, and not after a restart.
func TestProducerIDsAreUnique(t *testing.T) {
	inBubble(t, func(h *harness) {
		given := map[int64]bool{}
		take := func(n int) {
			cl := h.client()
			defer cl.Close()
			for range n {
				req := kmsg.NewPtrInitProducerIDRequest()
				resp := ask[*kmsg.InitProducerIDResponse](h, cl, req)
				if resp.ErrorCode != 0 || resp.ProducerEpoch != 0 || given[resp.ProducerID] {
					h.t.Fatalf("after %d ids: code %d, id %d, epoch %d; given before: %t", len(given), resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch, given[resp.ProducerID])
				}
				given[resp.ProducerID] = true
			}
		}
		take(2100) // blocks have 1,000
		h.restart()
		take(1100)
	})
}

// A block that could not be reserved is asked for again.
func TestProducerIDsAfterAFailure(t *testing.T) {
	fail := errors.New("no block")
	next := int64(0)
	ids := newProducerIDs(func(context.Context) (int64, int64, error) {
		if fail != nil {
			return 0, 0, fail
		}
		next += 2
		return next - 2, 2, nil
	})
	if id, err := ids.take(t.Context()); !errors.Is(err, fail) || id != -1 {
		t.Errorf("id %d, %v", id, err)
	}
	fail = nil
	for want := range int64(5) {
		if id, err := ids.take(t.Context()); id != want || err != nil {
			t.Errorf("id %d, %v; want %d", id, err, want)
		}
	}
}
