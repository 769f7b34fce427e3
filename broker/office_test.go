package broker

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log/batch"
)

// deed is one thing that was asked of a broker, from the moment it was asked.
type deed struct {
	what   string // create, delete, configure, produce, commit, new producer, delete records
	topic  string
	group  string
	id     [16]byte // created: the topic's
	number int64    // retention.ms, committed offset, producer id, first offset to be kept
	offset int64    // produced: where
	value  string   // produced
	acked  bool
}

// office does random deeds with a broker on a disk that crashes or fails, and keeps a book.
type office struct {
	*harness
	rng  *rand.Rand
	conn *rawConn
	n    int // values so far
	said transcript

	mu    sync.Mutex
	deeds []deed
}

// transcript is what a broker has logged.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

var (
	officeTopics = []string{"a", "b", "c"}
	officeGroups = []string{"g", "h"}
)

// officeSettings make much happen within little time.
func officeSettings() []string {
	return []string{"offsets.topic.num.partitions=2", "log.roll.ms=20000", "log.segment.delete.delay.ms=1000", "log.retention.check.interval.ms=30000", "log.flush.offset.checkpoint.interval.ms=20000",
		"metadata.log.max.record.bytes.between.snapshots=1500", "internal.metadata.log.segment.bytes=2000", "metadata.max.retention.bytes=3000",
		"log.cleaner.enable=false"} // what holds records stays where it is
}

// book gives all deeds up to now.
func (o *office) book() []deed {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.deeds)
}

// do enters a deed before, and what became of it after.
func (o *office) do(d deed, f func(*deed) error) error {
	o.mu.Lock()
	i := len(o.deeds)
	o.deeds = append(o.deeds, d)
	o.mu.Unlock()
	err := f(&d)
	d.acked = err == nil
	o.mu.Lock()
	o.deeds[i] = d
	o.mu.Unlock()
	return err
}

// errWedged is no answer in a minute.
var errWedged = errors.New("no answer and no hang-up")

// ask sends a request on a connection that is made when there is none.
func (o *office) ask(req kmsg.Request, version int16) (kmsg.Response, error) {
	if o.conn == nil {
		nc, err := o.net.Load().Dial()
		if err != nil {
			return nil, err
		}
		o.conn = &rawConn{h: o.harness, nc: nc}
	}
	resp, err := o.conn.try(req, version)
	if err != nil {
		_ = o.conn.nc.Close()
		o.conn = nil
		if timeout, ok := errors.AsType[interface {
			error
			Timeout() bool
		}](err); ok && timeout.Timeout() {
			return nil, fmt.Errorf("%w: %s", errWedged, kmsg.NameForKey(req.Key()))
		}
	}
	return resp, err
}

// try is call with an error where a request cannot be sent.
func (c *rawConn) try(req kmsg.Request, version int16) (kmsg.Response, error) {
	req.SetVersion(version)
	if err := c.nc.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := c.nc.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, c.id+1)); err != nil {
		return nil, err
	}
	c.id++
	body, err := c.receive()
	if err != nil {
		return nil, err
	}
	return c.decode(req, version, body)
}

// asked sends a request and gives its answer in its own type.
func asked[R kmsg.Response](o *office, req kmsg.Request, version int16) (R, error) {
	resp, err := o.ask(req, version)
	if err != nil {
		var none R
		return none, err
	}
	return resp.(R), nil
}

// step does one deed. With the disk in order it may fail only as the book says.
func (o *office) step() error {
	topic, group := officeTopics[o.rng.IntN(len(officeTopics))], officeGroups[o.rng.IntN(len(officeGroups))]
	exists := expect(o.book()).topic(topic).exists != no
	switch n := o.rng.IntN(100); {
	case !exists:
		return o.create(topic)
	case n < 40:
		return o.produceOne(topic)
	case n < 55:
		return o.commit(group, topic, o.rng.Int64N(1000))
	case n < 65:
		return o.configure(topic, 100_000_000+o.rng.Int64N(1000))
	case n < 73:
		return o.delete(topic)
	case n < 80:
		return o.newProducer()
	case n < 86:
		return o.deleteRecords(topic)
	default:
		time.Sleep(time.Duration(o.rng.IntN(40)) * time.Second)
		return nil
	}
}

func (o *office) create(topic string) error {
	retention := 200_000_000 + o.rng.Int64N(1000)
	return o.do(deed{what: "create", topic: topic, number: retention}, func(d *deed) error {
		req := kmsg.NewPtrCreateTopicsRequest()
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = topic, int32(1+o.rng.IntN(2)), 1
		t.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.ms", Value: ptr(strconv.FormatInt(retention, 10))}}
		req.Topics, req.TimeoutMillis = []kmsg.CreateTopicsRequestTopic{t}, 10_000
		resp, err := asked[*kmsg.CreateTopicsResponse](o, req, 7)
		if err != nil {
			return err
		}
		d.id = resp.Topics[0].TopicID
		return kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	})
}

func (o *office) delete(topic string) error {
	return o.do(deed{what: "delete", topic: topic}, func(*deed) error {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Topics, req.TimeoutMillis = []kmsg.DeleteTopicsRequestTopic{{Topic: &topic}}, 10_000
		resp, err := asked[*kmsg.DeleteTopicsResponse](o, req, 6)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	})
}

func (o *office) configure(topic string, retention int64) error {
	return o.do(deed{what: "configure", topic: topic, number: retention}, func(*deed) error {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = "retention.ms", ptr(strconv.FormatInt(retention, 10))
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		r.Configs = []kmsg.IncrementalAlterConfigsRequestResourceConfig{c}
		req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{r}
		resp, err := asked[*kmsg.IncrementalAlterConfigsResponse](o, req, 1)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	})
}

func (o *office) produceOne(topic string) error {
	o.n++
	value := "value " + strconv.Itoa(o.n)
	return o.do(deed{what: "produce", topic: topic, value: value}, func(d *deed) error {
		b := batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: time.Now().UnixMilli(), Value: []byte(value)}})
		resp, err := asked[*kmsg.ProduceResponse](o, produceRequest(topic, b), 9)
		if err != nil {
			return err
		}
		p := resp.Topics[0].Partitions[0]
		d.offset = p.BaseOffset
		return kerr.ErrorForCode(p.ErrorCode)
	})
}

func (o *office) commit(group, topic string, offset int64) error {
	return o.do(deed{what: "commit", group: group, topic: topic, number: offset}, func(*deed) error {
		// The offsets topic is made for whoever looks for its coordinator.
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys = []string{group}
		if _, err := o.ask(find, 4); err != nil {
			return err
		}
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = group, -1
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset = offset
		// By id: a commit by name that follows the deletion and re-creation of its topic closely
		// may be removed with what was committed before, in Kafka too.
		id := expect(o.book()).topic(topic).id
		req.Topics = []kmsg.OffsetCommitRequestTopic{{TopicID: id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
		resp, err := asked[*kmsg.OffsetCommitResponse](o, req, 10)
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
		if errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator) || errors.Is(err, kerr.CoordinatorNotAvailable) {
			time.Sleep(time.Second) // as a client does
			if resp, err = asked[*kmsg.OffsetCommitResponse](o, req, 10); err == nil {
				err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
			}
		}
		return err
	})
}

func (o *office) newProducer() error {
	return o.do(deed{what: "new producer"}, func(d *deed) error {
		resp, err := asked[*kmsg.InitProducerIDResponse](o, &kmsg.InitProducerIDRequest{TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1}, 4)
		if err != nil {
			return err
		}
		d.number = resp.ProducerID
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

func (o *office) deleteRecords(topic string) error {
	end := int64(len(expect(o.book()).topic(topic).records))
	before := o.rng.Int64N(end + 1)
	return o.do(deed{what: "delete records", topic: topic, number: before}, func(*deed) error {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis = 10_000
		req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: before}}}}
		resp, err := asked[*kmsg.DeleteRecordsResponse](o, req, 2)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	})
}

// certainty tells whether something must be so.
type certainty int

const (
	no certainty = iota
	maybe
	yes
)

// expected is what a book says about the state of a cluster.
type expected struct {
	topics    map[string]*expectedTopic
	offsets   map[[2]string][]int64 // by group and topic: what may be committed, -1 for nothing
	producers map[int64]bool        // ids that were given
}

// expectedTopic is one topic.
type expectedTopic struct {
	exists             certainty
	id                 [16]byte // zero: not known
	retention          []int64  // what it may be
	records            []deed   // produced, in order; those that are not acked may be there
	startMin, startMax int64
}

func (e *expected) topic(name string) *expectedTopic {
	if e.topics[name] == nil {
		e.topics[name] = &expectedTopic{}
	}
	return e.topics[name]
}

// expect reads a book.
func expect(deeds []deed) *expected {
	e := &expected{topics: map[string]*expectedTopic{}, offsets: map[[2]string][]int64{}, producers: map[int64]bool{}}
	for _, d := range deeds {
		t := e.topic(d.topic)
		if d.acked && d.topic != "" && d.what != "create" && d.what != "delete" && d.what != "commit" {
			t.exists = yes
		}
		switch {
		case d.what == "create" && d.acked:
			*t = expectedTopic{exists: yes, id: d.id, retention: []int64{d.number}}
		case d.what == "create" && t.exists != yes:
			t.exists, t.id, t.retention = maybe, [16]byte{}, append(t.retention, d.number)
		case d.what == "delete":
			t.exists = min(t.exists, maybe)
			if d.acked {
				*t = expectedTopic{}
			}
			for key, values := range e.offsets {
				if key[1] == d.topic {
					e.offsets[key] = append(values, -1)
				}
			}
		case d.what == "configure" && d.acked:
			t.retention = []int64{d.number}
		case d.what == "configure":
			t.retention = append(t.retention, d.number)
		case d.what == "produce":
			t.records = append(t.records, d)
		case d.what == "delete records" && d.acked:
			t.startMin, t.startMax = max(t.startMin, d.number), max(t.startMax, d.number)
		case d.what == "delete records":
			t.startMax = max(t.startMax, d.number)
		case d.what == "commit" && d.acked:
			e.offsets[[2]string{d.group, d.topic}] = []int64{d.number}
		case d.what == "commit":
			key := [2]string{d.group, d.topic}
			if e.offsets[key] == nil {
				e.offsets[key] = []int64{-1}
			}
			e.offsets[key] = append(e.offsets[key], d.number)
		case d.what == "new producer" && d.acked:
			e.producers[d.number] = true
		}
	}
	return e
}

// errDiffers is an answer that is not what the book says.
var errDiffers = errors.New("not as it was acknowledged")

// inspect holds a broker against a book and then uses it.
func (o *office) inspect(deeds []deed) error {
	e := expect(deeds)
	meta, err := asked[*kmsg.MetadataResponse](o, &kmsg.MetadataRequest{}, 12)
	if err != nil {
		return err
	}
	there := map[string]kmsg.MetadataResponseTopic{}
	for _, t := range meta.Topics {
		there[*t.Topic] = t
	}
	for _, name := range officeTopics {
		t, is := e.topic(name), there[name]
		switch found := is.Topic != nil; {
		case !found && t.exists == yes:
			return fmt.Errorf("topic %s is gone", name)
		case found && t.exists == no:
			return fmt.Errorf("topic %s was deleted, or never made, and is there", name)
		case found && t.id != [16]byte{} && is.TopicID != t.id:
			return fmt.Errorf("topic %s has id %x, want %x", name, is.TopicID, t.id)
		case found:
			if err := errors.Join(o.inspectConfig(name, t), o.inspectRecords(name, t)); err != nil {
				return fmt.Errorf("topic %s: %w", name, err)
			}
		}
	}
	if err := o.inspectOffsets(e); err != nil {
		return err
	}
	return o.inspectNext(e, there)
}

func (o *office) inspectConfig(name string, t *expectedTopic) error {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: name, ConfigNames: []string{"retention.ms"}}}
	resp, err := asked[*kmsg.DescribeConfigsResponse](o, req, 4)
	if err != nil {
		return err
	}
	r := resp.Resources[0]
	if r.ErrorCode != 0 || len(r.Configs) != 1 {
		return fmt.Errorf("describe configs: %w, %d settings", kerr.ErrorForCode(r.ErrorCode), len(r.Configs))
	}
	got, err := strconv.ParseInt(*r.Configs[0].Value, 10, 64)
	if err != nil || !slices.Contains(t.retention, got) {
		return fmt.Errorf("%w: retention.ms is %s, want one of %d", errDiffers, *r.Configs[0].Value, t.retention)
	}
	return nil
}

// inspectRecords reads partition 0 from its start.
func (o *office) inspectRecords(name string, t *expectedTopic) error {
	values, start, err := o.read(name)
	if err != nil {
		return err
	}
	if start < t.startMin {
		return fmt.Errorf("%w: it starts at %d, and the records below %d were deleted", errDiffers, start, t.startMin)
	}
	known := map[string]bool{}
	for _, d := range t.records {
		known[d.value] = true
		if got, ok := values[d.offset]; d.acked && d.offset >= t.startMax && (!ok || got != d.value) {
			return fmt.Errorf("%w: offset %d holds %q, want %q; it starts at %d", errDiffers, d.offset, got, d.value, start)
		}
	}
	for offset, v := range values {
		if !known[v] {
			return fmt.Errorf("%w: offset %d holds %q, which was not produced to it", errDiffers, offset, v)
		}
	}
	return nil
}

// read gives all records of partition 0 of a topic, and its log start.
func (o *office) read(name string) (values map[int64]string, start int64, err error) {
	values = map[int64]string{}
	list := kmsg.NewPtrListOffsetsRequest()
	list.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -2, CurrentLeaderEpoch: -1}}}}
	resp, err := asked[*kmsg.ListOffsetsResponse](o, list, 7)
	if err != nil {
		return nil, 0, err
	}
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return nil, 0, fmt.Errorf("list offsets: %w", kerr.ErrorForCode(p.ErrorCode))
	}
	for next := p.Offset; ; {
		b, err := o.fetchFrom(name, next)
		if err != nil || len(b) == 0 {
			return values, p.Offset, err
		}
		for len(b) > 0 {
			h, err := batch.Parse(b)
			if err == nil {
				err = batch.CheckCRC(&h, b[:h.Size()])
			}
			if err == nil {
				err = batch.Records(b[:h.Size()], 1<<20, func(r batch.Record) error {
					if at := h.BaseOffset + int64(r.OffsetDelta); at >= next {
						values[at] = string(r.Value)
					}
					return nil
				})
			}
			if err != nil {
				return nil, 0, fmt.Errorf("fetched at %d: %w", next, err)
			}
			next, b = max(next, h.LastOffset()+1), b[h.Size():]
		}
	}
}

// fetchFrom fetches once.
func (o *office) fetchFrom(name string, offset int64) ([]byte, error) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxBytes, req.SessionEpoch = -1, 1<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, 1<<20
	req.Topics = []kmsg.FetchRequestTopic{{Topic: name, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	resp, err := asked[*kmsg.FetchResponse](o, req, 12)
	if err != nil {
		return nil, err
	}
	if resp.ErrorCode != 0 {
		return nil, fmt.Errorf("fetch: %w", kerr.ErrorForCode(resp.ErrorCode))
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return nil, fmt.Errorf("fetch at %d: %w", offset, kerr.ErrorForCode(got.ErrorCode))
	}
	return got.RecordBatches, nil
}

func (o *office) inspectOffsets(e *expected) error {
	for _, group := range officeGroups {
		got, err := o.committed(group)
		if err != nil {
			return fmt.Errorf("offsets of %s: %w", group, err)
		}
		for _, topic := range officeTopics {
			may := e.offsets[[2]string{group, topic}]
			if may == nil {
				may = []int64{-1}
			}
			at, ok := got[topic]
			if !ok {
				at = -1
			}
			if !slices.Contains(may, at) {
				return fmt.Errorf("%w: group %s has offset %d of %s, want one of %d", errDiffers, group, at, topic, may)
			}
		}
	}
	return nil
}

// committed asks for all offsets of a group, again while they are loaded.
func (o *office) committed(group string) (map[string]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, MemberEpoch: -1}}
	for range 60 {
		resp, err := asked[*kmsg.OffsetFetchResponse](o, req, 8)
		if err != nil {
			return nil, err
		}
		g := resp.Groups[0]
		switch err := kerr.ErrorForCode(g.ErrorCode); {
		case errors.Is(err, kerr.NotCoordinator): // no offsets topic yet: or it is loaded again
			find := kmsg.NewPtrFindCoordinatorRequest()
			find.CoordinatorKeys = []string{group}
			if _, err := o.ask(find, 4); err != nil {
				return nil, err
			}
			time.Sleep(time.Second)
			continue
		case errors.Is(err, kerr.CoordinatorLoadInProgress), errors.Is(err, kerr.CoordinatorNotAvailable):
			time.Sleep(time.Second)
			continue
		case err != nil:
			return nil, err
		}
		offsets := map[string]int64{}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 {
					return nil, kerr.ErrorForCode(p.ErrorCode)
				}
				offsets[t.Topic] = p.Offset
			}
		}
		return offsets, nil
	}
	return nil, errors.New("the coordinator does not come up")
}

// inspectNext uses the broker: the next operations work, and no producer id is given twice.
func (o *office) inspectNext(e *expected, there map[string]kmsg.MetadataResponseTopic) error {
	if err := o.newProducer(); err != nil {
		return fmt.Errorf("a new producer id: %w", err)
	}
	if id := o.deeds[len(o.deeds)-1].number; e.producers[id] {
		return fmt.Errorf("%w: producer id %d is given a second time", errDiffers, id)
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if !slices.Contains(officeTopics, name) {
			continue
		}
		if err := o.produceOne(name); err != nil {
			return fmt.Errorf("produce to %s: %w", name, err)
		}
	}
	name := "next"
	if err := errors.Join(o.create(name), o.produceOne(name), o.configure(name, 5), o.commit("g", name, 7), o.delete(name)); err != nil {
		return fmt.Errorf("the life of a new topic: %w", err)
	}
	return nil
}
