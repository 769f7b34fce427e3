package raw

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Conn is one connection that asks one request at a time. It is for one goroutine.
type Conn struct {
	nc  net.Conn
	in  *bufio.Reader
	out []byte
	buf []byte
}

// Dial connects.
func Dial(ctx context.Context, addr string) (*Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Conn{nc: nc, in: bufio.NewReaderSize(nc, 4<<10)}, nil
}

// Close ends it, also under a Do of another goroutine.
func (c *Conn) Close() error { return c.nc.Close() }

// answerWithin is how long a broker may take to answer, beyond what a request asks it to wait.
const answerWithin = 2 * time.Minute

// Do asks, and answers what came back. The version is the request's.
func (c *Conn) Do(req kmsg.Request) (kmsg.Response, error) {
	resp, err := c.do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}

func (c *Conn) do(req kmsg.Request) (kmsg.Response, error) {
	if err := c.nc.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return nil, err
	}
	c.out = appendRequest(c.out[:0], req)
	if _, err := c.nc.Write(c.out); err != nil {
		return nil, err
	}
	b, err := readFrame(c.in, c.buf)
	c.buf = b
	if err != nil {
		return nil, err
	}
	b = b[4:]
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && req.Key() != 18 {
		if len(b) == 0 || b[0] != 0 {
			return nil, fmt.Errorf("tagged fields in the header of an answer")
		}
		b = b[1:]
	}
	return resp, resp.ReadFrom(b)
}

// appendRequest is a request with its length and header.
func appendRequest(b []byte, req kmsg.Request) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(req.GetVersion()))
	b = binary.BigEndian.AppendUint32(b, 0) // correlation id
	b = binary.BigEndian.AppendUint16(b, 3)
	b = append(b, "raw"...)
	if req.IsFlexible() {
		b = append(b, 0)
	}
	b = req.AppendTo(b)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// One asks to produce a batch of one record of some bytes to each of some partitions, acks=all.
func One(topic string, partitions []int32, size int) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, -1, 30_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	records := appendBatch(rand.New(rand.NewPCG(1, 1)), 1, size)
	for _, i := range partitions {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = i, records
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// FirstError is the first error of a partition in an answer to Produce or ListOffsets, 0 if there is none.
func FirstError(resp kmsg.Response) int16 {
	switch resp := resp.(type) {
	case *kmsg.ProduceResponse:
		for i := range resp.Topics {
			for _, p := range resp.Topics[i].Partitions {
				if p.ErrorCode != 0 {
					return p.ErrorCode
				}
			}
		}
	case *kmsg.ListOffsetsResponse:
		for i := range resp.Topics {
			for _, p := range resp.Topics[i].Partitions {
				if p.ErrorCode != 0 {
					return p.ErrorCode
				}
			}
		}
	}
	return 0
}
