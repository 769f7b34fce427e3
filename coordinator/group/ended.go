package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// endingsKept is how long it is known when a marker came. No request takes that long to get from the transaction
// coordinator here.
const endingsKept = 10 * time.Minute

// endings are the times at which the last markers of producers were sent. Soft: what a load forgets is refused.
type endings struct {
	loaded time.Time
	sent   map[int64]time.Time // by producer id
	full   int                 // number of them at which old ones go
}

// add remembers a marker.
func (e *endings) add(producerID int64, sent time.Time) {
	if len(e.sent) >= e.full {
		for id, at := range e.sent {
			if sent.Sub(at) > endingsKept {
				delete(e.sent, id)
			}
		}
		e.full = max(1024, 2*len(e.sent))
	}
	if e.sent == nil {
		e.sent = map[int64]time.Time{}
	}
	e.sent[producerID] = sent
}

// refusal tells why a commit may not begin a transaction here that the transaction coordinator was asked about at a
// time: nil if no marker of the producer was sent since.
func (e *endings) refusal(producerID int64, asked, now time.Time) *kerr.Error {
	at, known := e.sent[producerID]
	switch {
	case asked.IsZero():
		return nil
	case asked.Before(e.loaded), now.Sub(asked) > endingsKept:
		return kerr.CoordinatorLoadInProgress // ask again
	case known && !at.Before(asked):
		return kerr.InvalidTxnState
	}
	return nil
}
