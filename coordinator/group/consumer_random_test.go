package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
)

// run is a shard with clients of both protocols in one group.
type run struct {
	w           *world
	rnd         *rand.Rand
	clients     []*groupClient
	claims      map[string]*claim // by member id
	cooperative bool              // what members of the classic protocol do
	serial      int
	calm        bool // nothing gets lost
	matching    []matching
	seen        sight
}

// matching is a matching of regular expressions that has been asked for and is not done.
type matching struct {
	errand  ResolveRegexes
	cluster *cluster
	asked   time.Time
}

// sight is what is remembered of the group until the next event.
type sight struct {
	consumer      bool
	epoch, target int32
	members       map[string]int32
	speakers      int // members of the consumer protocol
}

// TestConsumerRandomRuns plays clients of both protocols against one group, while topics, settings and the coordinator
// come and go. After each event the invariants hold, no epoch goes back, and what a client has been told and has not given
// up is its own; when all is quiet the group is Stable and every partition has its member.
func TestConsumerRandomRuns(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 15
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { consumerRun(t, seed) })
	}
}

func consumerRun(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 848))
	o := DefaultOptions(nil, nil)
	o.InitialRebalanceDelay = 0
	o.OffsetsRetention, o.OffsetsRetentionCheckInterval = 5*time.Minute, time.Minute
	o.Migration = Migration(rnd.IntN(4))
	o.ConsumerMaxSize = 3 + rnd.IntN(8)
	r := &run{w: newWorld(t, o), rnd: rnd, claims: map[string]*claim{}, cooperative: rnd.IntN(2) == 0}
	r.w.sparse = true
	r.w.topics("a:3", "b:2", "ab:4")
	for i := range 5 {
		c := &groupClient{name: fmt.Sprintf("c%d", i), classic: rnd.IntN(3) == 0, version: int16(rnd.IntN(4))}
		if rnd.IntN(3) == 0 {
			id := fmt.Sprintf("i%d", i)
			c.instance = &id
		}
		if r.cooperative {
			c.version = max(c.version, 1)
		}
		c.start()
		r.choose(c)
		r.clients = append(r.clients, c)
	}
	for range 250 {
		r.w.out.Reset()
		r.step()
		r.observe()
	}
	r.settle()
}

// choose gives a client another subscription.
func (r *run) choose(c *groupClient) {
	c.changed = true
	c.names = [][]string{{"a"}, {"a", "b"}, {"ab"}, {"a", "b", "ab"}, {"nothing"}}[r.rnd.IntN(5)]
	c.regex, c.assignor = nil, nil
	if c.classic {
		return
	}
	c.regex = new(string)
	if r.rnd.IntN(3) == 0 {
		regex := []string{"a.*", "b", ".*b", "x"}[r.rnd.IntN(4)]
		c.regex = &regex
		if r.rnd.IntN(2) == 0 {
			c.names = []string{}
		}
	}
	if r.rnd.IntN(2) == 0 {
		name := []string{"uniform", "range"}[r.rnd.IntN(2)]
		c.assignor = &name
	}
}

// step does one thing.
func (r *run) step() {
	c := r.clients[r.rnd.IntN(len(r.clients))]
	for _, c := range r.clients {
		r.listen(c)
	}
	switch r.rnd.IntN(48) {
	case 0:
		r.reload()
	case 1, 2, 3, 4:
		r.w.advance(time.Duration(r.rnd.IntN(8000)) * time.Millisecond)
	case 5:
		if r.rnd.IntN(4) == 0 {
			r.w.advance(time.Duration(r.rnd.IntN(400)) * time.Second)
		}
	case 6:
		r.choose(c)
		if c.phase = toJoin; c.classic {
			c.waits = ""
		}
	case 7:
		r.leave(c)
	case 8:
		c.start()
	case 9:
		if r.rnd.IntN(2) == 0 {
			r.leave(c)
		}
		r.become(c, !c.classic)
	case 10:
		r.changeTopics()
	case 11:
		r.changeSettings()
	case 12, 13:
		r.resolve()
	case 14, 15, 16:
		r.commits(c)
	case 17:
		r.admin()
	case 18:
		c.waits = "" // it gives up waiting and joins again
		if c.classic {
			c.phase = toJoin
		}
	default:
		r.act(c)
	}
}

// become makes a client come back with the other protocol.
func (r *run) become(c *groupClient, classic bool) {
	c.start()
	c.classic = classic
	r.choose(c)
}

// reload replaces the coordinator by another one, which may have other options.
func (r *run) reload() {
	if r.rnd.IntN(2) == 0 {
		r.w.o.Migration = Migration(r.rnd.IntN(4))
	}
	if r.rnd.IntN(2) == 0 {
		r.matching = nil // nobody does what the last coordinator has asked for
	}
	r.w.load()
	for _, c := range r.clients {
		if c.waits != "" {
			c.waits, c.phase = "", toJoin
		}
	}
}

func (r *run) changeTopics() {
	name := []string{"a", "b", "ab", "c"}[r.rnd.IntN(4)]
	known, n := r.w.cluster.Topic(name), r.rnd.IntN(5)
	if known != nil && r.rnd.IntN(2) == 0 {
		n = len(known.Partitions) + 1
	}
	anew := r.rnd.IntN(4) == 0 || known != nil && n < len(known.Partitions) // a topic does not shrink
	r.w.topics(fmt.Sprintf("%s:%d", name, n) + map[bool]string{true: "!"}[anew])
}

func (r *run) changeSettings() {
	r.w.changed(r.w.cluster.with(func(c *cluster) {
		c.settings.AssignmentInterval = []time.Duration{0, time.Second, 5 * time.Second}[r.rnd.IntN(3)]
		c.settings.Session = []time.Duration{20 * time.Second, 45 * time.Second}[r.rnd.IntN(2)]
	}), nil, false)
}

// resolve does the errands that wait, with the topics as they were when they were given. Some fail.
func (r *run) resolve() {
	all := r.matching
	r.matching = nil
	for _, m := range all {
		done := RegexesResolved{Group: m.errand.Group, Version: m.cluster.version, Asked: m.asked}
		if r.calm || r.rnd.IntN(6) > 0 {
			done.Matched = MatchRegexes(m.errand.Regexes, slices.Sorted(maps.Keys(m.cluster.byName)))
		}
		r.w.take(r.w.shard.Handle(r.w.now, coordinator.Event{Body: done}))
	}
}

// admin does what tools do.
func (r *run) admin() {
	lines := []string{
		"describe", "consumer-describe", "list", "count", "delete", "fetch", "commit offsets=b/0:1", "topic-deleted topic=b",
		"offset-delete topics=a/0,b/0", "leave members=@i1,@i2",
	}
	r.w.command(lines[r.rnd.IntN(len(lines))])
}

// observe checks what must hold from one event to the next.
func (r *run) observe() {
	for _, e := range r.w.errands {
		r.matching = append(r.matching, matching{e, r.w.cluster, r.w.now})
	}
	r.w.errands = nil
	now := sight{members: map[string]int32{}}
	g, c := r.w.shard.consumers["g"], r.w.shard.groups["g"]
	switch {
	case g != nil:
		now.consumer, now.epoch, now.target = true, g.epoch, g.targetEpoch
		for id, m := range g.members {
			if now.members[id] = m.epoch; m.classic == nil {
				now.speakers++
			}
		}
		r.checkClaims(g)
	case c != nil:
		for id := range r.claims {
			// A group that moves takes the target for what its members have, until they have joined.
			r.claims[id].unsure = r.claims[id].unsure || r.seen.consumer
		}
		now.epoch = c.generation
		for _, m := range c.members {
			now.members[m.id] = c.generation
		}
	}
	for id := range r.claims {
		if _, in := now.members[id]; !in {
			delete(r.claims, id)
		}
	}
	if err := r.seen.goesTo(now); err != nil {
		r.w.t.Fatalf("%v: %+v became %+v\nso far:\n%s", err, r.seen, now, r.w.out)
	}
	downgrades := r.w.o.Migration.downgrades() && len(now.members) <= r.w.o.MaxSize
	if r.seen.consumer && r.seen.speakers > 0 && now.consumer && now.speakers == 0 && len(now.members) > 0 && downgrades {
		r.w.t.Fatalf("nobody speaks the consumer protocol any more, and the group has not moved\nso far:\n%s", r.w.out)
	}
	r.seen = now
}

// goesTo reports what has gone back.
func (s sight) goesTo(now sight) error {
	if len(s.members) == 0 || len(now.members) == 0 {
		return nil // it may have been deleted and made anew
	}
	if !s.consumer || !now.consumer {
		return nil // the generation of a classic group is remembered only once its leader has assigned
	}
	if now.epoch < s.epoch || now.target < s.target {
		return fmt.Errorf("an epoch of the group has gone back")
	}
	for id, epoch := range s.members {
		if after, in := now.members[id]; in && after < epoch && after != leaveStaticEpoch {
			return fmt.Errorf("the epoch of %s has gone back", id)
		}
	}
	return nil
}

// checkClaims checks that what clients have is theirs: the group agrees, and nobody else has it. (That no two members have
// the same partition checkConsumerGroup has seen.)
func (r *run) checkClaims(g *consumerGroup) {
	for _, id := range slices.Sorted(maps.Keys(r.claims)) {
		m, claims := g.members[id], r.claims[id]
		if m == nil || claims.unsure {
			continue
		}
		for tp := range claims.held {
			known := r.w.cluster.TopicByID(tp.topic)
			if known == nil || int(tp.partition) >= len(known.Partitions) {
				continue
			}
			if !m.assigned.has(tp.topic, tp.partition) && !m.revoking.has(tp.topic, tp.partition) {
				r.w.t.Fatalf("%s has partition %d of %s, which is not its own: %s\nso far:\n%s", id, tp.partition, known.Name, showCurrent(m), r.w.out)
			}
		}
	}
}

// settle lets all clients behave, and change their protocols where they may.
func (r *run) settle() {
	r.calm = true
	r.w.out.Reset()
	for _, name := range []string{"a", "b", "ab"} {
		if r.w.cluster.Topic(name) == nil {
			r.w.topics(name + ":3")
		}
	}
	r.w.o.ConsumerMaxSize = 100
	r.w.load()
	// Where the group may not move to the consumer protocol, all must speak the same one.
	mixed, classic := r.w.o.Migration.upgrades(), r.rnd.IntN(2) == 0
	alike := r.rnd.IntN(2) == 0
	assignor := []string{"uniform", "range"}[r.rnd.IntN(2)]
	for _, c := range r.clients {
		if !mixed && c.classic != classic {
			r.become(c, classic)
		}
		c.waits, c.phase = "", toJoin // the leader of a classic group looks at the topics again
		if alike {
			c.names, c.changed = []string{"a", "ab"}, true
			if !c.classic {
				c.regex, c.assignor = new(string), &assignor
			}
		}
	}
	r.checkSettled(alike)
	if r.w.o.Migration == MigrationBidirectional {
		r.migrate(!classic)
		r.migrate(classic)
	}
}

// migrate lets the clients change to one protocol, one after the other.
func (r *run) migrate(classic bool) {
	for _, c := range r.clients {
		if c.classic != classic {
			names := c.names
			r.leave(c)
			r.become(c, classic)
			if c.names = names; !classic {
				c.regex = new(string)
			}
			r.wait(time.Duration(r.rnd.IntN(4)) * beatEvery)
		}
	}
	r.checkSettled(false)
}

// checkSettled expects the group to come to rest with all clients in it.
func (r *run) checkSettled(alike bool) {
	r.wait(105 * time.Second)
	for _, c := range r.clients {
		r.listen(c)
	}
	r.checkOwners()
	if r.w.shard.consumers["g"] != nil {
		r.checkConverged(alike)
		return
	}
	d := r.w.ask(Describe{Group: "g", Version: 5}).(kmsg.DescribeGroupsResponseGroup)
	if d.State != "Stable" || len(d.Members) != len(r.clients) {
		r.w.t.Errorf("the classic group is %s with %d members", d.State, len(d.Members))
	}
}

// checkConverged checks that a consumer group has come to rest: all are in it, and every partition of what they are
// subscribed to is somebody's.
func (r *run) checkConverged(alike bool) {
	g := r.w.shard.consumers["g"]
	if g.state() != consumerStable || len(g.members) != len(r.clients) {
		r.w.t.Fatalf("after quiet minutes the group is %s with %d members:\n%s\nso far:\n%s", g.state(), len(g.members), strings.Join(g.dump(), "\n"), r.w.out)
	}
	for _, c := range r.clients {
		m := g.members[c.memberID]
		if m == nil || m.epoch != c.epoch {
			r.w.t.Fatalf("%s believes to be %s at epoch %d:\n%s", c.name, c.memberID, c.epoch, strings.Join(g.dump(), "\n"))
		}
		n := 0
		for topic, ps := range m.assigned {
			for _, p := range ps {
				if n++; !c.owned[topicPart{topic, p.partition}] {
					r.w.t.Errorf("%s does not have partition %d of topic %d, which is its own", c.name, p.partition, topic[0])
				}
			}
		}
		if n != len(c.owned) {
			r.w.t.Errorf("%s has %d partitions, the group says %d", c.name, len(c.owned), n)
		}
	}
	if !alike {
		return
	}
	// All want the same: in total for the one assignor, by topic for the other, nobody has two more than another.
	uniform, ranges := g.assignors["uniform"], g.assignors["range"]
	if uniform == ranges && uniform > 0 {
		return // which of them it was depends on who came first
	}
	if uniform >= ranges {
		r.checkEven(func(topicPart) bool { return true })
		return
	}
	for _, topic := range r.w.cluster.byName {
		r.checkEven(func(tp topicPart) bool { return tp.topic == topic.ID })
	}
}

// checkEven checks that the clients have equally many of some partitions, but for one.
func (r *run) checkEven(of func(topicPart) bool) {
	var sizes []int
	for _, c := range r.clients {
		n := 0
		for tp := range c.owned {
			if of(tp) {
				n++
			}
		}
		sizes = append(sizes, n)
	}
	if slices.Max(sizes)-slices.Min(sizes) > 1 {
		r.w.t.Errorf("all want the same and have %v partitions", sizes)
	}
}

// checkOwners checks that the clients have all the partitions of the topics that they want, each once, and no others.
func (r *run) checkOwners() {
	owner := map[topicPart]string{}
	wanted := map[string]bool{}
	for _, c := range r.clients {
		wants := slices.Clone(c.names)
		if deref(c.regex) != "" {
			wants = append(wants, MatchRegexes([]string{*c.regex}, slices.Sorted(maps.Keys(r.w.cluster.byName)))[*c.regex]...)
		}
		for _, name := range wants {
			wanted[name] = true
		}
		for tp := range c.owned {
			if known := r.w.cluster.TopicByID(tp.topic); known == nil || !slices.Contains(wants, known.Name) {
				r.w.t.Errorf("%s has partition %d of topic %d and does not want it", c.name, tp.partition, tp.topic[0])
			}
			if other, taken := owner[tp]; taken {
				r.w.t.Errorf("%s and %s have partition %d of topic %d", c.name, other, tp.partition, tp.topic[0])
			}
			owner[tp] = c.name
		}
	}
	for name := range wanted {
		known := r.w.cluster.Topic(name)
		for p := 0; known != nil && p < len(known.Partitions); p++ {
			if owner[topicPart{known.ID, int32(p)}] == "" {
				r.w.t.Errorf("partition %d of %s is nobody's", p, name)
			}
		}
	}
}
