package answers

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// retryFor bounds an option retry.
	retryFor = 3 * time.Second
	// maxWaits bounds all waits of one script.
	maxWaits = 4 * time.Second
	// settling is how long Kafka's broker may take to see what its controller
	// has answered already, before it is asked. Ours is given no such time.
	settling = 150 * time.Millisecond
)

// Player plays scripts against one broker.
type Player struct {
	addr    string
	port    int32
	cluster string
	dir     string // its log directory
	kafka   bool   // it is Apache Kafka
}

// play runs a script and gives the answer to each block that has one.
func (p *Player) play(s *script) (map[*block]string, error) {
	if err := p.clean(); err != nil {
		return nil, fmt.Errorf("delete what is there: %w", err)
	}
	r := &run{Player: p, conns: map[string]*conn{}, names: newNames(p.port, p.cluster, p.dir, time.Now())}
	defer r.close()
	got := map[*block]string{}
	for _, b := range s.blocks {
		if b.head == "" {
			continue
		}
		text, err := r.do(b)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", s.name, b.line, b.head, err)
		}
		if b.answered {
			got[b] = text
		}
		if p.kafka && changesMetadata(b.verb) {
			if err := p.settle(); err != nil {
				return nil, err
			}
		}
	}
	return got, nil
}

// settle waits until Kafka leads every partition that it tells of.
func (p *Player) settle() error {
	time.Sleep(settling)
	for until := time.Now().Add(retryFor); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if leads, err := p.leads(); leads || err != nil {
			return err
		}
	}
	return nil // some scripts make partitions that nobody leads
}

func (p *Player) leads() (bool, error) {
	meta := kmsg.NewPtrMetadataRequest()
	meta.SetVersion(12)
	resp, err := p.request(meta)
	if err != nil {
		return false, err
	}
	offsets := kmsg.NewPtrListOffsetsRequest()
	offsets.SetVersion(7)
	offsets.ReplicaID = -1
	for _, t := range resp.(*kmsg.MetadataResponse).Topics {
		ot := kmsg.NewListOffsetsRequestTopic()
		ot.Topic = *t.Topic
		for _, mp := range t.Partitions {
			op := kmsg.NewListOffsetsRequestTopicPartition()
			op.Partition, op.Timestamp = mp.Partition, -1
			ot.Partitions = append(ot.Partitions, op)
		}
		offsets.Topics = append(offsets.Topics, ot)
	}
	if resp, err = p.request(offsets); err != nil {
		return false, err
	}
	for _, t := range resp.(*kmsg.ListOffsetsResponse).Topics {
		for _, op := range t.Partitions {
			if op.ErrorCode != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

func changesMetadata(verb string) bool {
	switch verb {
	case "CreateTopics", "DeleteTopics", "CreatePartitions", "AlterConfigs", "IncrementalAlterConfigs":
		return true
	}
	return false
}

// run is one script being played.
type run struct {
	*Player
	conns  map[string]*conn
	names  *names
	waited time.Duration
}

func (r *run) close() {
	for _, c := range r.conns {
		c.Close()
	}
}

func (r *run) do(b *block) (string, error) {
	if b.verb == "wait" {
		if r.waited += b.pause; r.waited > maxWaits {
			return "", fmt.Errorf("a script may wait %v in all", maxWaits)
		}
		time.Sleep(b.pause)
		return "", nil
	}
	c, err := r.conn(b.conn)
	if err != nil {
		return "", err
	}
	switch b.verb {
	case "hangup":
		r.drop(b.conn)
		return "", nil
	case "raw":
		text, err := c.raw(b.body)
		return r.seen(b, text), err
	case "receive":
		text, err := c.receive(r.names)
		return r.seen(b, text), err
	}
	return r.ask(b, c)
}

// ask sends a request and reads its answer.
func (r *run) ask(b *block, c *conn) (string, error) {
	req, err := build(b, r.names)
	if err != nil {
		return "", err
	}
	until := time.Now().Add(retryFor)
	for {
		c.send(b, req)
		if b.quiet {
			if p, ok := req.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
				c.expectNone()
			}
			return "", nil
		}
		text, err := c.receive(r.names)
		if err != nil {
			return "", err
		}
		if b.retry == "" || !strings.Contains(text, "ErrorCode: "+b.retry+" ") || time.Now().After(until) {
			return r.seen(b, text), nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// seen drops a connection that the broker closed, or on which it owes an answer
// and so would never give another one; the next command on it opens a new one.
func (r *run) seen(b *block, text string) string {
	if text == answerClosed || text == answerNothing && b.verb != "raw" {
		r.drop(b.conn)
	}
	return text
}

func (r *run) drop(name string) {
	if c := r.conns[name]; c != nil {
		c.Close()
	}
	delete(r.conns, name)
}

func (r *run) conn(name string) (*conn, error) {
	if c := r.conns[name]; c != nil {
		return c, nil
	}
	c, err := dial(r.addr)
	if err != nil {
		return nil, err
	}
	r.conns[name] = c
	return c, nil
}

// build makes the request of a block.
func build(b *block, n *names) (kmsg.Request, error) {
	body, err := parseFields(b.body)
	if err != nil {
		return nil, err
	}
	version := b.req.GetVersion()
	req := kmsg.RequestForKey(b.req.Key())
	req.(message).Default()
	req.SetVersion(version)
	sh, err := shapeOf(func() message { return kmsg.RequestForKey(b.req.Key()).(message) }, version)
	if err != nil {
		return nil, err
	}
	f := &filler{names: n, shape: sh, version: fmt.Sprintf("%s v%d", b.verb, version)}
	return req, f.set(reflect.ValueOf(req).Elem(), body, "")
}

// request plays one request outside of any script.
func (p *Player) request(req kmsg.Request) (kmsg.Response, error) {
	c, err := dial(p.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	client := "answers"
	b := &block{req: req, options: options{client: &client}}
	c.send(b, req)
	f, err := c.read(patience)
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	header := 4
	if resp.IsFlexible() {
		header = 5
	}
	if len(f) < header {
		return nil, fmt.Errorf("an answer of %d bytes", len(f))
	}
	return resp, resp.ReadFrom(f[header:])
}

// warm waits until the broker answers as coordinator of every group and transactional id and has
// producer ids, as after the first seconds of its life, and learns the cluster's id and the name of the log directory.
func (p *Player) warm() error {
	until := time.Now().Add(30 * time.Second)
	for {
		ready, err := p.ready()
		if err != nil || ready {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("the broker at %s coordinates no groups or transactions, or has no producer ids yet", p.addr)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (p *Player) ready() (bool, error) {
	meta := kmsg.NewPtrMetadataRequest()
	meta.SetVersion(12)
	meta.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := p.request(meta)
	if err != nil {
		return false, err
	}
	if id := resp.(*kmsg.MetadataResponse).ClusterID; id != nil {
		p.cluster = *id
	}
	dirs := kmsg.NewPtrDescribeLogDirsRequest()
	dirs.SetVersion(1)
	dirs.Topics = []kmsg.DescribeLogDirsRequestTopic{}
	if resp, err = p.request(dirs); err != nil || len(resp.(*kmsg.DescribeLogDirsResponse).Dirs) == 0 {
		return false, err
	}
	p.dir = resp.(*kmsg.DescribeLogDirsResponse).Dirs[0].Dir
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.SetVersion(2)
	find.CoordinatorKey = "warm"
	if resp, err = p.request(find); err != nil || resp.(*kmsg.FindCoordinatorResponse).ErrorCode != 0 {
		return false, err
	}
	producer := kmsg.NewPtrInitProducerIDRequest()
	producer.SetVersion(4)
	if resp, err = p.request(producer); err != nil || resp.(*kmsg.InitProducerIDResponse).ErrorCode != 0 {
		return false, err
	}
	if ready, err := p.readyForTransactions(); !ready || err != nil {
		return false, err
	}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.SetVersion(8)
	for i := range 400 { // enough names to meet each of the 50 partitions
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = fmt.Sprintf("warm-%d", i)
		fetch.Groups = append(fetch.Groups, g)
	}
	if resp, err = p.request(fetch); err != nil {
		return false, err
	}
	for _, g := range resp.(*kmsg.OffsetFetchResponse).Groups {
		if g.ErrorCode != 0 {
			return false, nil
		}
	}
	return true, nil
}

// readyForTransactions tells whether the broker answers as coordinator of every transactional id.
func (p *Player) readyForTransactions() (bool, error) {
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.SetVersion(2)
	find.CoordinatorType, find.CoordinatorKey = 1, "warm"
	resp, err := p.request(find)
	if err != nil || resp.(*kmsg.FindCoordinatorResponse).ErrorCode != 0 {
		return false, err
	}
	describe := kmsg.NewPtrDescribeTransactionsRequest()
	for i := range 400 { // as for groups
		describe.TransactionalIDs = append(describe.TransactionalIDs, fmt.Sprintf("warm-%d", i))
	}
	if resp, err = p.request(describe); err != nil {
		return false, err
	}
	for _, s := range resp.(*kmsg.DescribeTransactionsResponse).TransactionStates {
		if s.ErrorCode != kerr.TransactionalIDNotFound.Code {
			return false, nil
		}
	}
	return true, nil
}

// clean deletes all groups and all topics but the internal ones.
func (p *Player) clean() error {
	if err := p.cleanGroups(); err != nil {
		return err
	}
	meta := kmsg.NewPtrMetadataRequest()
	meta.SetVersion(12)
	resp, err := p.request(meta)
	if err != nil {
		return err
	}
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.SetVersion(6)
	del.TimeoutMillis = 5000
	for _, t := range resp.(*kmsg.MetadataResponse).Topics {
		if !t.IsInternal {
			dt := kmsg.NewDeleteTopicsRequestTopic()
			dt.Topic = t.Topic
			del.Topics = append(del.Topics, dt)
		}
	}
	if len(del.Topics) == 0 {
		return nil
	}
	resp, err = p.request(del)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.DeleteTopicsResponse).Topics {
		if t.ErrorCode != 0 && t.ErrorCode != kerr.UnknownTopicOrPartition.Code { // gone meanwhile
			return fmt.Errorf("DeleteTopics answers %d", t.ErrorCode)
		}
	}
	if p.kafka {
		time.Sleep(2 * settling)
	}
	return nil
}

func (p *Player) cleanGroups() error {
	list := kmsg.NewPtrListGroupsRequest()
	list.SetVersion(5)
	resp, err := p.request(list)
	if err != nil {
		return err
	}
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.SetVersion(2)
	var classic, consumer []string
	for _, g := range resp.(*kmsg.ListGroupsResponse).Groups {
		del.Groups = append(del.Groups, g.Group)
		if g.GroupType == "consumer" {
			consumer = append(consumer, g.Group)
		} else {
			classic = append(classic, g.Group)
		}
	}
	if len(del.Groups) == 0 {
		return nil
	}
	if err := p.emptyClassic(classic); err != nil {
		return err
	}
	if err := p.emptyConsumer(consumer); err != nil {
		return err
	}
	_, err = p.request(del)
	return err
}

// emptyClassic has all members leave their groups.
func (p *Player) emptyClassic(groups []string) error {
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.SetVersion(5)
	describe.Groups = groups
	resp, err := p.request(describe)
	if err != nil {
		return err
	}
	for _, g := range resp.(*kmsg.DescribeGroupsResponse).Groups {
		var members []string
		for _, m := range g.Members {
			members = append(members, m.MemberID)
		}
		if err := p.leave(g.Group, members); err != nil {
			return err
		}
	}
	return nil
}

// emptyConsumer does the same for groups of the consumer protocol (KIP-848).
func (p *Player) emptyConsumer(groups []string) error {
	describe := kmsg.NewPtrConsumerGroupDescribeRequest()
	describe.SetVersion(1)
	describe.Groups = groups
	resp, err := p.request(describe)
	if err != nil {
		return err
	}
	for _, g := range resp.(*kmsg.ConsumerGroupDescribeResponse).Groups {
		var members []string
		for _, m := range g.Members {
			members = append(members, m.MemberID)
		}
		if err := p.leave(g.Group, members); err != nil {
			return err
		}
	}
	return nil
}

// leave has members leave a group, whatever protocol they speak.
func (p *Player) leave(group string, members []string) error {
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.SetVersion(5)
	leave.Group = group
	for _, id := range members {
		lm := kmsg.NewLeaveGroupRequestMember()
		lm.MemberID = id
		leave.Members = append(leave.Members, lm)
	}
	_, err := p.request(leave)
	return err
}
