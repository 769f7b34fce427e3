package group

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
)

// client is a well-meant group member that sometimes forgets, repeats itself,
// changes its mind or disappears.
type client struct {
	name       string
	instance   string // "" dynamic
	version    int16
	memberID   string
	generation int64
	protocols  string
	waits      string // token
	sync       bool   // the next thing to send is SyncGroup
	member     bool   // has an assignment of this generation
	leads      bool
	members    []string
}

// TestRandomRuns plays random clients against a shard. The invariants hold after
// each event, a load gives the same hard state, and when the clients behave again
// the group comes to rest with all of them in it.
func TestRandomRuns(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomRun(t, seed) })
	}
}

func randomRun(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	o := DefaultOptions(nil, nil)
	o.InitialRebalanceDelay = []time.Duration{0, time.Second, 3 * time.Second}[rnd.IntN(3)]
	o.OffsetsRetention, o.OffsetsRetentionCheckInterval = 5*time.Minute, time.Minute
	o.MaxSize = 4 + rnd.IntN(4)
	w := newWorld(t, o)
	w.sparse = true
	var clients []*client
	for i := range 4 {
		c := &client{name: fmt.Sprintf("c%d", i), version: []int16{0, 3, 4, 8, 9}[rnd.IntN(5)], protocols: "range,sticky"}
		if rnd.IntN(3) == 0 && c.version >= 8 {
			c.instance = fmt.Sprintf("i%d", i)
		}
		clients = append(clients, c)
	}
	for range 250 {
		w.out.Reset()
		randomStep(w, rnd, clients)
	}
	settle(w, clients)
}

// randomStep does one thing.
func randomStep(w *world, rnd *rand.Rand, clients []*client) {
	c := clients[rnd.IntN(len(clients))]
	w.listen(clients)
	switch rnd.IntN(24) {
	case 0:
		w.load()
		for _, c := range clients {
			c.waits = ""
		}
	case 1, 2, 3:
		w.advance(time.Duration(rnd.IntN(12000)) * time.Millisecond)
	case 4:
		if rnd.IntN(4) == 0 {
			w.advance(time.Duration(rnd.IntN(10)) * time.Minute)
		}
	case 5:
		c.protocols = []string{"range,sticky", "sticky,range", "range", "sticky:new,range:new"}[rnd.IntN(4)]
		c.forget()
		c.memberID = ""
	case 6:
		w.send(w.token(), readEvent("leave", args{"members": c.memberID, "member": c.memberID, "version": fmt.Sprint(rnd.IntN(6))}))
		c.forget()
	case 7:
		c.waits = "" // it gives up waiting and asks again
	case 8:
		c.generation += int64(rnd.IntN(3) - 1)
	case 9, 10, 11:
		w.send(w.token(), readEvent("heartbeat", c.args(nil)))
	case 12, 13:
		w.send(w.token(), readEvent("commit", c.args(args{"offsets": fmt.Sprintf("a/%d:%d", rnd.IntN(3), rnd.IntN(100))})))
	case 14:
		randomAdmin(w, rnd)
	default:
		c.act(w)
	}
}

// randomAdmin does what tools and transactions do.
func randomAdmin(w *world, rnd *rand.Rand) {
	lines := []string{
		"describe", "list", "count", "delete", "fetch stable=true", "commit offsets=b/0:1", "topic-deleted topic=a",
		"txn-commit pid=1 offsets=a/0:5", "txn-commit pid=2 offsets=a/0:6,c/0:1", "end-txn pid=1 result=commit",
		"end-txn pid=2 result=abort", "offset-delete topics=a/0,b/0", "commit group=other offsets=a/0:1", "delete group=other",
		"leave members=@i1", "commit offsets=a/1:3 retention=2m",
	}
	w.command(lines[rnd.IntN(len(lines))])
}

// args are the arguments that every request of a member has.
func (c *client) args(more args) args {
	a := args{"member": c.memberID, "generation": fmt.Sprint(c.generation), "client": c.name, "version": fmt.Sprint(c.version)}
	if c.instance != "" {
		a["instance"] = c.instance
	}
	for k, v := range more {
		a[k] = v
	}
	return a
}

// forget makes a client start over, with the id it has.
func (c *client) forget() {
	c.waits, c.sync, c.member, c.leads, c.members = "", false, false, false, nil
}

// act sends the next request of the protocol, unless one is on its way.
func (c *client) act(w *world) {
	switch {
	case c.waits != "":
	case c.sync:
		a := c.args(args{"version": "4"})
		if c.leads {
			for _, m := range c.members {
				a["assign"] += "," + m + ":part"
			}
			a["assign"] = a["assign"][1:]
		}
		c.waits = w.token()
		w.send(c.waits, readEvent("sync", a))
	case c.member:
		w.send(w.token(), readEvent("heartbeat", c.args(args{"version": "4"})))
	default:
		c.waits = w.token()
		w.send(c.waits, readEvent("join", c.args(args{"protocols": c.protocols, "session": "10s", "rebalance": "15s"})))
	}
}

// listen lets every client read its reply.
func (w *world) listen(clients []*client) {
	for _, c := range clients {
		body, ok := w.replies[c.waits]
		if c.waits == "" || !ok {
			continue
		}
		c.waits = ""
		switch r := body.(type) {
		case *kmsg.JoinGroupResponse:
			c.joined(r)
		case *kmsg.SyncGroupResponse:
			c.sync, c.member = false, r.ErrorCode == 0
			if r.ErrorCode == kerr.UnknownMemberID.Code || r.ErrorCode == kerr.FencedInstanceID.Code {
				c.memberID = ""
			}
		}
	}
}

// joined reads a JoinGroup reply.
func (c *client) joined(r *kmsg.JoinGroupResponse) {
	c.forget()
	switch r.ErrorCode {
	case 0:
		c.memberID, c.generation, c.sync = r.MemberID, int64(r.Generation), true
		c.leads = r.LeaderID == r.MemberID && !r.SkipAssignment
		for i := range r.Members {
			c.members = append(c.members, r.Members[i].MemberID)
		}
	case kerr.MemberIDRequired.Code:
		c.memberID = r.MemberID
	default:
		c.memberID = ""
	}
}

// settle lets the clients behave, and expects the group to be Stable with all of
// them soon: within two rebalances and the sessions of those who are no more.
func settle(w *world, clients []*client) {
	w.t.Helper()
	for _, c := range clients {
		c.forget()
		c.memberID, c.protocols = "", "range,sticky"
	}
	for range 120 {
		w.out.Reset()
		w.listen(clients)
		for _, c := range clients {
			if c.member {
				w.beat(c)
			}
			if !c.member {
				c.act(w)
			}
		}
		w.advance(time.Second)
	}
	w.listen(clients)
	d := w.ask(Describe{Group: "g", Version: 5}).(kmsg.DescribeGroupsResponseGroup)
	var ids, want []string
	for _, m := range d.Members {
		ids = append(ids, m.MemberID)
	}
	for _, c := range clients {
		want = append(want, c.memberID)
	}
	slices.Sort(ids)
	slices.Sort(want)
	if d.State != "Stable" || !slices.Equal(ids, want) {
		w.t.Errorf("after two quiet minutes the group is %s with %q, want Stable with %q", d.State, ids, want)
	}
}

// beat sends a heartbeat and does what the answer says.
func (w *world) beat(c *client) {
	r := w.ask(readEvent("heartbeat", c.args(args{"version": "4"}))).(*kmsg.HeartbeatResponse)
	switch r.ErrorCode {
	case 0:
	case kerr.RebalanceInProgress.Code, kerr.IllegalGeneration.Code:
		c.forget()
	default:
		c.forget()
		c.memberID = ""
	}
}

// TestManyMembers checks that a shard of thousands of groups and members stays
// quick: the whole takes well under a second unless something is quadratic.
func TestManyMembers(t *testing.T) {
	const groups, members = 1000, 5000
	w := newWorld(t, DefaultOptions(nil, nil))
	w.sparse = true
	handle := func(body any) coordinator.Result {
		r := w.shard.Handle(w.now, coordinator.Event{Token: "t", Body: body})
		for _, rec := range r.Records {
			w.shard.Apply(rec)
		}
		return r
	}
	for i := range groups {
		handle(readEvent("join", args{"group": fmt.Sprintf("g%d", i), "version": "3"}))
	}
	for range members {
		handle(readEvent("join", args{"group": "large", "version": "3"}))
	}
	for range 10 {
		w.now = w.now.Add(3 * time.Second)
		for _, rec := range w.shard.Handle(w.now, coordinator.Event{Body: coordinator.Tick{}}).Records {
			w.shard.Apply(rec)
		}
	}
	large := w.shard.groups["large"]
	if large.state != preparingRebalance && len(large.members) != members {
		t.Fatalf("the large group is %v with %d members", large.state, len(large.members))
	}
	beats := 0
	for range 20 {
		for _, m := range large.members {
			handle(readEvent("heartbeat", args{"group": "large", "member": m.id, "generation": fmt.Sprint(large.generation)}))
			beats++
		}
	}
	w.now = w.now.Add(time.Hour)
	for {
		at, ok := w.shard.Deadline()
		if !ok || at.After(w.now) {
			break
		}
		for _, rec := range w.shard.Handle(w.now, coordinator.Event{Body: coordinator.Tick{}}).Records {
			w.shard.Apply(rec)
		}
	}
	if n := handle(Count{}).Replies[0].Body.(Counts); n.Stable+n.CompletingRebalance+n.PreparingRebalance != 0 {
		t.Errorf("an hour of silence left %+v", n)
	}
}
