package broker

import (
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/protocol"
)

// sessionRequest names partitions of one topic.
func sessionRequest(id, epoch int32, partitions ...int32) *protocol.FetchRequest {
	r := &protocol.FetchRequest{SessionID: id, SessionEpoch: epoch}
	t := protocol.FetchTopic{Name: "t"}
	for _, p := range partitions {
		t.Partitions = append(t.Partitions, protocol.FetchPartition{Index: p})
	}
	if len(partitions) > 0 {
		r.Topics = append(r.Topics, t)
	}
	return r
}

func forget(r *protocol.FetchRequest, partitions ...int32) *protocol.FetchRequest {
	r.Forgotten = []protocol.ForgottenTopic{{Name: "t", Partitions: partitions}}
	return r
}

func countingIDs() func() int32 {
	next := int32(0)
	return func() int32 { next++; return next }
}

// One conversation, step by step: what each request gets, and how many
// partitions its session has then.
func TestFetchSessionConversation(t *testing.T) {
	c := newSessionCache(10, 1000, countingIDs())
	now := time.Unix(1000, 0)
	for i, step := range []struct {
		req     *protocol.FetchRequest
		version int16
		code    *kerr.Error
		id      int32 // 0: no session
		parts   int
	}{
		{sessionRequest(0, 0, 0, 1, 2), 12, nil, 1, 3},
		{sessionRequest(1, 1), 12, nil, 1, 3},
		{sessionRequest(1, 1), 12, kerr.InvalidFetchSessionEpoch, 0, 0}, // a stale duplicate
		{sessionRequest(1, 3), 12, kerr.InvalidFetchSessionEpoch, 0, 0}, // from the future
		{sessionRequest(1, 2), 13, kerr.FetchSessionTopicIDError, 0, 0}, // ids where names were spoken
		{forget(sessionRequest(1, 2, 3), 0, 1), 12, nil, 1, 2},          // one more, two fewer
		{sessionRequest(7, 1), 12, kerr.FetchSessionIDNotFound, 0, 0},   // nobody's
		{forget(sessionRequest(1, 3), 2, 3), 12, nil, 0, 0},             // nothing left: it ends
		{sessionRequest(1, 4), 12, kerr.FetchSessionIDNotFound, 0, 0},   // and is gone
		{sessionRequest(0, -1, 0), 12, nil, 0, 0},                       // wants none
		{sessionRequest(0, 0, 5), 12, nil, 2, 1},                        // a new one
		{sessionRequest(2, 0, 6, 7), 12, nil, 3, 2},                     // takes its place
		{sessionRequest(2, 1), 12, kerr.FetchSessionIDNotFound, 0, 0},   // the old one is closed
		{sessionRequest(3, -1, 6), 12, nil, 0, 0},                       // closes the last one
		{sessionRequest(3, 1), 12, kerr.FetchSessionIDNotFound, 0, 0},   // closed
		{sessionRequest(0, 0, 1), 6, nil, 0, 0},                         // before v7 there were none
	} {
		s, code := c.begin(step.req, step.version, now)
		if code != step.code {
			t.Fatalf("step %d: error %v, want %v", i, code, step.code)
		}
		switch {
		case step.id == 0 && s != nil:
			t.Fatalf("step %d: session %d, want none", i, s.id)
		case step.id != 0 && (s == nil || s.id != step.id || len(s.parts) != step.parts || s.order.Len() != step.parts):
			t.Fatalf("step %d: session %+v, want id %d with %d partitions", i, s, step.id, step.parts)
		}
	}
	if sessions, parts, _ := c.stats(); sessions != 0 || parts != 0 {
		t.Errorf("%d sessions with %d partitions are left", sessions, parts)
	}
}

// A full cache gives no session unless the oldest was not used for two minutes.
func TestFetchSessionEviction(t *testing.T) {
	c := newSessionCache(2, 1000, countingIDs())
	now := time.Unix(1000, 0)
	first, _ := c.begin(sessionRequest(0, 0, 0), 12, now)
	second, _ := c.begin(sessionRequest(0, 0, 0), 12, now)
	if first == nil || second == nil {
		t.Fatal("two slots give two sessions")
	}
	now = now.Add(minSessionEviction - time.Second)
	if s, code := c.begin(sessionRequest(0, 0, 0), 12, now); s != nil || code != nil {
		t.Fatalf("a full cache gives %v, %v", s, code)
	}
	if _, code := c.begin(sessionRequest(first.id, 1), 12, now); code != nil {
		t.Fatal(code)
	}
	now = now.Add(2 * time.Second) // the second is idle for two minutes now
	third, _ := c.begin(sessionRequest(0, 0, 0), 12, now)
	if third == nil {
		t.Fatal("the idle session keeps its slot")
	}
	if _, code := c.begin(sessionRequest(second.id, 1), 12, now); code != kerr.FetchSessionIDNotFound {
		t.Errorf("the evicted session answers %v", code)
	}
	if _, code := c.begin(sessionRequest(first.id, 2), 12, now); code != nil {
		t.Errorf("the used session answers %v", code)
	}
	if _, _, evictions := c.stats(); evictions != 1 {
		t.Errorf("%d evictions, want 1", evictions)
	}
}

func TestSessionEpochWraps(t *testing.T) {
	if e := nextSessionEpoch(math.MaxInt32); e != 1 {
		t.Errorf("after the largest epoch comes %d, want 1", e)
	}
}

// An incremental answer names a partition whose data, high watermark, start or error is news, and no other.
func TestFetchSessionTellsWhatIsNew(t *testing.T) {
	c := newSessionCache(1, 1000, countingIDs())
	s, _ := c.begin(sessionRequest(0, 0, 0), 12, time.Unix(1000, 0))
	marks := func(start, high int64) log.Chunk {
		return log.Chunk{Offsets: log.Offsets{Start: start, High: high, End: high, Stable: start}}
	}
	data := marks(0, 12)
	data.Bytes = 70
	for i, step := range []struct {
		chunk log.Chunk
		code  int16
		tell  bool
	}{
		{marks(0, 10), 0, true}, // the first answer names all
		{marks(0, 10), 0, false},
		{marks(0, 12), 0, true}, // read_committed: of a transaction that is open
		{marks(0, 12), 0, false},
		{data, 0, true},
		{marks(3, 12), 0, true}, // DeleteRecords
		{marks(3, 12), 0, false},
		{marks(3, 12), kerr.KafkaStorageError.Code, true},
		{marks(3, 12), kerr.KafkaStorageError.Code, true}, // errors are repeated
		{marks(3, 12), 0, true},
		{marks(3, 12), 0, false},
	} {
		p := &fetchPlan{key: sessionKey{name: "t"}, chunk: step.chunk, code: step.code, split: protocol.EpochEndOffset{Epoch: -1}}
		s.mu.Lock()
		tell := s.tellLocked(p)
		s.mu.Unlock()
		if tell != step.tell {
			t.Errorf("step %d: told %t, want %t", i, tell, step.tell)
		}
	}
}
