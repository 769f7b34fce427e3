package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// memoryMax is the limit of the broker under the mix, in bytes.
	memoryMax = 128 << 20
	// mixTime is how long the mix goes on.
	mixTime = 15 * time.Second
	// mixEach is how many of each kind of attacker there are.
	mixEach = 4
)

// memoryCheck runs everything that takes memory at once, against a broker with a limit that is small for it. Its peak stays
// below the limit, and an honest client gets every record written and back.
func (b *bench) memoryCheck(ctx context.Context) error {
	const check = "a mix that takes memory, within rotpeter.memory.max"
	if b.target == "kafka" || !b.wants("hostile", b.target, check) {
		return nil
	}
	began := time.Now()
	measure, err := b.memoryMix(ctx)
	b.report.note("hostile", "rotpeter", check, time.Since(began), measure, err)
	return ctx.Err()
}

func (b *bench) memoryMix(ctx context.Context) (measure string, err error) {
	t, err := b.newTarget("memory", fmt.Sprint("rotpeter.memory.max=", memoryMax), "offsets.topic.num.partitions=5", "transaction.state.log.num.partitions=5")
	if err != nil {
		return "", err
	}
	if err := t.Start(); err != nil {
		return "", err
	}
	defer t.Kill()
	ref, err := newReference(t.bootstrap)
	if err != nil {
		return "", err
	}
	defer ref.close()
	for _, topic := range []string{"honest", "flood"} {
		if err := ref.create(ctx, topic, checkPartitions); err != nil {
			return "", err
		}
	}
	honest, err := kgo.NewClient(kgo.SeedBrokers(t.bootstrap), kgo.DefaultProduceTopic("honest"), kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(20*time.Second))
	if err != nil {
		return "", err
	}
	defer honest.Close()
	if err := honest.ProduceSync(ctx, kgo.StringRecord("first")).FirstErr(); err != nil {
		return "", err
	}
	mix := &memoryMixture{addr: t.bootstrap}
	defer mix.close()
	if err := mix.connect(ctx); err != nil {
		return "", err
	}
	attack, cancel := context.WithTimeout(ctx, mixTime)
	defer cancel()
	wait := mix.start(attack)
	written, slowest := 1, time.Duration(0)
	for attack.Err() == nil {
		began := time.Now()
		if err := honest.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(written))).FirstErr(); err != nil {
			return "", fmt.Errorf("the honest client's record %d: %w", written, err)
		}
		written, slowest = written+1, max(slowest, time.Since(began))
		time.Sleep(50 * time.Millisecond)
	}
	wait()
	if !t.Alive() {
		return "", errors.New("the broker ended")
	}
	read := 0
	if err := ref.each(ctx, "honest", func(*kgo.Record) { read++ }); err != nil {
		return "", err
	}
	peak := t.megabytes("VmHWM")
	measure = fmt.Sprintf("peak %.0f MB of %.0f, honest client's slowest %v of %d; %s", peak, float64(memoryMax)/1e6, slowest.Round(time.Millisecond), written, mix.counts())
	switch {
	case read != written:
		err = fmt.Errorf("%d records were acknowledged to the honest client, %d are there", written, read)
	case peak > float64(memoryMax)/1e6:
		err = fmt.Errorf("peak memory %.0f MB, limit %.0f", peak, float64(memoryMax)/1e6)
	}
	return measure, err
}

// memoryMixture are clients that want memory, each kind in its way.
type memoryMixture struct {
	addr  string
	idle  []net.Conn
	done  [mixKinds]atomic.Int64 // what was taken
	wrong [mixKinds]atomic.Int64 // what was cut off
	why   [mixKinds]atomic.Value // the last reason, a string
}

const (
	mixProduce = iota
	mixCommit
	mixJoin
	mixTransactional
	mixDecoded
	mixPromise
	mixKinds
)

func (m *memoryMixture) close() {
	for _, c := range m.idle {
		c.Close()
	}
}

// connect opens the idle connections. The last may find no room any more.
func (m *memoryMixture) connect(ctx context.Context) error {
	for range idleConnections {
		conn, err := dial(ctx, m.addr)
		if err != nil {
			return err
		}
		m.idle = append(m.idle, conn)
		if _, err := conn.Write(apiVersions(1)); err != nil {
			return fmt.Errorf("connection %d: %w", len(m.idle), err)
		}
	}
	return nil
}

// start begins the attacks, which end with ctx; wait waits for that.
func (m *memoryMixture) start(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for who := range mixEach {
		for kind := range mixKinds {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					if err := m.step(ctx, kind, fmt.Sprintf("%d-%d", who, n)); err != nil {
						m.wrong[kind].Add(1)
						m.why[kind].Store(err.Error())
						select {
						case <-time.After(20 * time.Millisecond):
						case <-ctx.Done():
						}
						continue
					}
					m.done[kind].Add(1)
				}
			})
		}
	}
	return wg.Wait
}

// step does one thing that takes memory, over a connection of its own.
func (m *memoryMixture) step(ctx context.Context, kind int, name string) error {
	conn, err := dial(ctx, m.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	switch kind {
	case mixPromise: // most of a large frame, then nothing
		b := binary.BigEndian.AppendUint32(nil, 2<<20)
		b = append(b, 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0) // Produce v9
		if _, err := conn.Write(append(b, make([]byte, 2<<20-100)...)); err != nil {
			return err
		}
		return readClosed(conn, 300*time.Millisecond)
	case mixProduce:
		for range 10 {
			if err := ask(conn, floodRequest()); err != nil {
				return err
			}
		}
		return nil
	}
	rounds := 50
	if kind == mixDecoded {
		rounds = 2
	}
	for i := range rounds {
		if err := ask(conn, stateRequest(kind, fmt.Sprintf("%s-%d", name, i))); err != nil {
			return err
		}
	}
	return nil
}

// floodRequest is a Produce of almost a megabyte for each of two partitions, which is refused for its checksum only after it was read.
func floodRequest() kmsg.Request {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 8, -1, 5000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic = "flood"
	for p := range int32(2) {
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = p, make([]byte, 900<<10)
		binary.BigEndian.PutUint32(part.Records[8:], uint32(len(part.Records)-12))
		part.Records[16] = 2
		topic.Partitions = append(topic.Partitions, part)
	}
	req.Topics = append(req.Topics, topic)
	return req
}

// stateRequest makes the broker remember something of a new name, or decode much.
func stateRequest(kind int, name string) kmsg.Request {
	name += strings.Repeat("x", 200)
	switch kind {
	case mixCommit:
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.Generation = 7, name, -1
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic = "flood"
		for p := range int32(checkPartitions) {
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Partition, part.Metadata = p, kmsg.StringPtr(strings.Repeat("m", 4000))
			topic.Partitions = append(topic.Partitions, part)
		}
		req.Topics = append(req.Topics, topic)
		return req
	case mixJoin:
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 3, name, 30_000, 30_000, "consumer"
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = "range", make([]byte, 10_000)
		req.Protocols = append(req.Protocols, p)
		return req
	case mixTransactional:
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version, req.TransactionalID, req.TransactionTimeoutMillis = 3, &name, 60_000
		return req
	}
	req := kmsg.NewPtrMetadataRequest() // empty names: two bytes on the wire, a struct in memory
	req.Version, req.Topics = 1, make([]kmsg.MetadataRequestTopic, 100_000)
	for i := range req.Topics {
		req.Topics[i].Topic = kmsg.StringPtr("")
	}
	return req
}

// ask sends a request and takes its answer.
func ask(conn net.Conn, req kmsg.Request) error {
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)); err != nil {
		return err
	}
	_, err := readFrame(conn, 64<<20)
	return err
}

// counts tells how often each kind was served and refused.
func (m *memoryMixture) counts() string {
	var parts []string
	for kind, name := range []string{"produce", "commit", "join", "transactional id", "decode", "promise"} {
		why, _ := m.why[kind].Load().(string)
		parts = append(parts, fmt.Sprintf("%s %d/%d %s", name, m.done[kind].Load(), m.wrong[kind].Load(), why))
	}
	return "rounds done/cut off: " + strings.Join(parts, ", ")
}
