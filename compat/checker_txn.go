package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/compat/checker"
)

// checkerTxnClient is a franz-go client that reads and writes in transactions.
type checkerTxnClient struct {
	r     *checkerRound
	name  string
	id    string // transactional id
	group string // that its transactions commit offsets of
	rng   *rand.Rand
	read  *checkerConsumer
}

// transactional runs transactions until ctx ends: sends to several partitions and polls with read_committed, then a commit, an
// abort, or nothing: then another producer comes, with the same transactional id or another.
func (r *checkerRound) transactional(ctx context.Context, name string) {
	c := &checkerTxnClient{r: r, name: name, id: name, group: "by-" + name, rng: r.random(name), read: r.consumer(name+"-reads", "committed")}
	defer c.read.close()
	for n := 0; ctx.Err() == nil; n++ {
		p, err := r.producer(name, c.id)
		if err != nil {
			r.note("%v", err)
			pause(ctx, 100*time.Millisecond)
			continue
		}
		for range 60 {
			if err = c.one(ctx, p); err != nil || ctx.Err() != nil {
				break
			}
		}
		if err != nil {
			r.note("%s: %v", name, err)
		}
		p.close()
		if c.rng.IntN(3) == 0 {
			c.id = fmt.Sprintf("%s-%d", name, n)
		}
	}
}

// errLeft says that a transaction is left alone.
var errLeft = errors.New("leaves its transaction alone")

// one is one transaction. An error means that the producer cannot go on.
func (c *checkerTxnClient) one(ctx context.Context, p *checkerProducer) error {
	txn := c.r.next()
	if err := p.cl.BeginTransaction(); err != nil {
		return err
	}
	c.r.tellf("begin %d %s", txn, c.name)
	before := p.sent
	for range 1 + c.rng.IntN(4) {
		if c.rng.IntN(3) == 0 {
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_, err := c.read.poll(short, 1+c.rng.IntN(300), txn)
			if cancel(); err != nil {
				return err
			}
			continue
		}
		for range 1 + c.rng.IntN(6) {
			p.send(context.Background(), c.rng.Int32N(checkerPartitions), txn, func(v checker.Value) []byte { return checkerValue(c.rng, v) })
		}
	}
	err := errors.Join(p.flush(), p.failure())
	if err == nil && p.sent > before && c.rng.IntN(3) == 0 { // the client ends only transactions that it has sent in
		err = c.offsets(p, txn)
	}
	dice := c.rng.IntN(80)
	if dice == 0 {
		c.r.tellf("end %d failed %d", txn, monotonic())
		return errLeft
	}
	commit := err == nil && dice > 20
	if commit {
		c.r.tellf("ask %d %d", txn, monotonic())
	}
	long, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	endErr := p.cl.EndTransaction(long, kgo.TransactionEndTry(commit))
	outcome := checker.OK
	if endErr != nil {
		outcome = checker.Unknown
		c.r.note("end of %d: %v", txn, endErr)
	}
	c.r.tellf("end %d %v %d", txn, outcome, monotonic())
	if err != nil && endErr == nil {
		c.r.note("transaction %d of %s is aborted: %v", txn, c.name, err)
	}
	return endErr
}

// offsets adds commits of the group's offsets to a transaction.
func (c *checkerTxnClient) offsets(p *checkerProducer, txn uint32) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	id, epoch, err := p.cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = c.id, id, epoch, c.group
	err = patiently(ctx, func() (int16, error) {
		resp, err := add.RequestWith(ctx, p.cl)
		if err != nil {
			return 0, err
		}
		return resp.ErrorCode, nil
	})
	if err != nil {
		return fmt.Errorf("add offsets: %w", err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = c.id, id, epoch, c.group
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic = c.r.name
	for partition := range int32(checkerPartitions) {
		number := c.r.next()
		tp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		tp.Partition, tp.Offset, tp.Metadata = partition, c.read.next[partition], kmsg.StringPtr(fmt.Sprint(number))
		t.Partitions = append(t.Partitions, tp)
		c.r.tellf("commit %d %s %s %d %d %d %d", number, c.name, c.group, partition, tp.Offset, txn, monotonic())
	}
	req.Topics = append(req.Topics, t)
	err = patiently(ctx, func() (int16, error) {
		resp, err := req.RequestWith(ctx, p.cl)
		if err != nil {
			return 0, err
		}
		for _, tp := range resp.Topics[0].Partitions {
			if tp.ErrorCode != 0 {
				return tp.ErrorCode, kerr.ErrorForCode(tp.ErrorCode)
			}
		}
		return 0, nil
	})
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	return nil
}
