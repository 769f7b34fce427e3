package group

import "testing"

// Those producers are remembered that committed last.
func TestConnectionsAreBounded(t *testing.T) {
	var c connections
	for id := range int64(keptConnections) {
		c.spoke(id, 0, 5)
	}
	c.spoke(0, 0, 6)
	c.spoke(keptConnections, 0, 7)
	if len(c.of) != keptConnections || c.recent.Len() != keptConnections {
		t.Errorf("%d and %d are remembered", len(c.of), c.recent.Len())
	}
	for _, x := range []struct {
		id   int64
		conn uint64
		want bool
	}{{0, 5, true}, {0, 6, false}, {1, 4, false}, {2, 4, true}, {keptConnections, 6, true}} {
		if got := c.late(x.id, 0, x.conn, 0); got != x.want {
			t.Errorf("producer %d over connection %d: late is %t", x.id, x.conn, got)
		}
	}
}
