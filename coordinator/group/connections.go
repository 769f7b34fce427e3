package group

import "container/list"

// keptConnections is of how many producers a shard remembers the newest connection.
const keptConnections = 4096

// connections remembers over which connection the transactional commits of a producer came, of those producers that
// committed last. Until version 5 of TxnOffsetCommit the transactions of a producer look alike: a commit that was delayed
// on a connection which its client has given up, and sent again over the next one, could be taken for one of a later
// transaction, and put its offsets back. Kafka has no such rule.
type connections struct {
	of     map[int64]*list.Element // by producer id; of heard
	recent list.List               // the one that spoke last is in front
}

// heard is the newest connection of a producer.
type heard struct {
	producerID int64
	epoch      int16
	conn       uint64
}

// late tells whether a producer has come over a newer connection since, or, if nothing is known of it, may have come over
// one before the shard was loaded: after that connection.
func (c *connections) late(producerID int64, epoch int16, conn, loadedAfter uint64) bool {
	e := c.of[producerID]
	if e == nil {
		return conn != 0 && conn <= loadedAfter
	}
	h := e.Value.(*heard)
	return conn != 0 && h.epoch == epoch && conn < h.conn
}

// spoke remembers a commit.
func (c *connections) spoke(producerID int64, epoch int16, conn uint64) {
	if conn == 0 {
		return
	}
	if e := c.of[producerID]; e != nil {
		*e.Value.(*heard) = heard{producerID, epoch, conn}
		c.recent.MoveToFront(e)
		return
	}
	if c.of == nil {
		c.of = map[int64]*list.Element{}
	}
	if len(c.of) == keptConnections {
		last := c.recent.Back()
		delete(c.of, c.recent.Remove(last).(*heard).producerID)
	}
	c.of[producerID] = c.recent.PushFront(&heard{producerID, epoch, conn})
}
