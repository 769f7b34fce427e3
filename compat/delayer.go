package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// delayer is a proxy between clients and a broker, over a network that delays
// requests until their clients have given up and gone on: each EndTxn stays in
// it when it comes first, and its client loses the connection. What the client
// sends again, over the next one, passes. The delayed one reaches the broker,
// over its own connection, at some point of the producer's next transaction.
// The broker must advertise the delayer's address.
type delayer struct {
	broker string // address
	l      net.Listener

	mu        sync.Mutex
	random    *rand.Rand
	producers map[string]*delayed // by transactional id
	links     map[*link]bool      // whose connection to the broker is open
	answers   map[string]int      // how often a delayed request was answered so
}

// delayed is what the network has of a producer.
type delayed struct {
	frame  []byte // an EndTxn
	link   *link  // that it came over; nil: nothing is delayed
	met    bool   // the next transaction has begun
	passes int    // how many requests of that pass before it comes
}

// link is one connection of a client.
type link struct {
	client, server net.Conn
	cut            atomic.Bool
	late           chan []byte // the answer to the delayed request; closed with the connection
}

const (
	// delayedSteps is how many requests of a transaction a delayed one may let pass.
	delayedSteps = 5
	// lateWithin bounds the wait for the answer to a delayed request.
	lateWithin = 20 * time.Second
)

func newDelayer(seed uint64) (*delayer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	return &delayer{l: l, random: rand.New(rand.NewPCG(seed, 3)), producers: map[string]*delayed{}, links: map[*link]bool{}, answers: map[string]int{}}, err
}

func (d *delayer) addr() string { return d.l.Addr().String() }

// serve forwards connections to the broker until Close.
func (d *delayer) serve(broker string) {
	d.broker = broker
	for {
		client, err := d.l.Accept()
		if err != nil {
			return
		}
		go d.forward(client)
	}
}

// Close ends all connections.
func (d *delayer) Close() error {
	err := d.l.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.links {
		l.client.Close()
		l.server.Close()
	}
	return err
}

func (d *delayer) forward(client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", d.broker, 5*time.Second)
	if err != nil {
		return
	}
	l := &link{client: client, server: server, late: make(chan []byte, 1)}
	d.mu.Lock()
	d.links[l] = true
	d.mu.Unlock()
	go d.back(l)
	for {
		frame, err := readFrame(client, 100<<20)
		if err != nil {
			break
		}
		if d.holds(l, frame) {
			return // the broker's side stays open
		}
		if _, err := server.Write(withLength(frame)); err != nil {
			break
		}
	}
	server.Close()
}

// back hands the client its answers.
func (d *delayer) back(l *link) {
	defer close(l.late)
	defer l.server.Close()
	for {
		frame, err := readFrame(l.server, 100<<20)
		switch {
		case err != nil:
			l.client.Close()
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.links, l)
			return
		case !l.cut.Load():
			l.client.Write(withLength(frame)) // a client that is gone is noticed where it is read
		default:
			select {
			case l.late <- frame:
			default:
			}
		}
	}
}

// holds sees a request of a client. Is it one to delay, then its client is cut
// off; does it meet a delayed one, then that comes first.
func (d *delayer) holds(l *link, frame []byte) bool {
	id, ends := transactionOf(frame)
	if id == "" {
		return false
	}
	d.mu.Lock()
	p := d.producers[id]
	if p == nil {
		p = &delayed{}
		d.producers[id] = p
	}
	var now delayed
	switch {
	case p.link == nil:
	case !p.met && ends: // the same request again
		d.mu.Unlock()
		return false
	case ends || p.met && p.passes == 0 || !p.met && p.begins(d.random):
		now, *p = *p, delayed{}
	default:
		p.passes--
	}
	d.mu.Unlock()
	if now.link != nil {
		d.comes(now)
	}
	if !ends {
		return false
	}
	l.cut.Store(true)
	d.mu.Lock()
	p.frame, p.link, p.met = frame, l, false
	d.mu.Unlock()
	return true
}

// begins is called with the first request of the next transaction, and tells
// whether the delayed one comes before it.
func (p *delayed) begins(random *rand.Rand) bool {
	p.met, p.passes = true, random.IntN(delayedSteps)
	return p.passes == 0
}

// comes delivers a delayed request, and waits until the broker has dealt with it.
func (d *delayer) comes(p delayed) {
	answer := "hung up"
	p.link.server.SetWriteDeadline(time.Now().Add(lateWithin))
	if _, err := p.link.server.Write(withLength(p.frame)); err != nil {
		answer = err.Error()
	}
	want := binary.BigEndian.Uint32(p.frame[4:])
	timer := time.NewTimer(lateWithin)
	defer timer.Stop()
	for {
		select {
		case frame, ok := <-p.link.late:
			if ok && (len(frame) < 4 || binary.BigEndian.Uint32(frame) != want) {
				continue // of a request before it
			}
			if ok {
				answer = endAnswer(p.frame, frame)
			}
		case <-timer.C:
			answer = "no answer"
		}
		break
	}
	p.link.server.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[answer]++
}

// tally says how many requests came late, and what became of them.
func (d *delayer) tally() (n int, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var parts []string
	for _, a := range slices.Sorted(maps.Keys(d.answers)) {
		n += d.answers[a]
		parts = append(parts, fmt.Sprintf("%s %d", a, d.answers[a]))
	}
	return n, strings.Join(parts, ", ")
}

// transactionOf finds the transactional id of a request that belongs to a
// transaction, and whether it ends that.
func transactionOf(frame []byte) (id string, ends bool) {
	req, err := decodeRequest(frame)
	if err != nil {
		return "", false
	}
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		if r.TransactionID != nil {
			id = *r.TransactionID
		}
	case *kmsg.AddPartitionsToTxnRequest:
		id = r.TransactionalID
	case *kmsg.AddOffsetsToTxnRequest:
		id = r.TransactionalID
	case *kmsg.TxnOffsetCommitRequest:
		id = r.TransactionalID
	case *kmsg.EndTxnRequest:
		return r.TransactionalID, true
	}
	return id, false
}

// decodeRequest decodes the requests that transactionOf knows.
func decodeRequest(frame []byte) (kmsg.Request, error) {
	if len(frame) < 10 {
		return nil, io.ErrUnexpectedEOF
	}
	key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
	switch kmsg.Key(key) {
	case kmsg.Produce, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn:
	default:
		return nil, errors.New("not a request of a transaction")
	}
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	body := frame[10:]
	if n := int16(binary.BigEndian.Uint16(frame[8:])); n > 0 {
		if len(body) < int(n) {
			return nil, io.ErrUnexpectedEOF
		}
		body = body[n:]
	}
	if req.IsFlexible() {
		if len(body) == 0 || body[0] != 0 {
			return nil, errors.New("a header with tagged fields")
		}
		body = body[1:]
	}
	return req, req.ReadFrom(body)
}

// endAnswer is the code of an answer to an EndTxn.
func endAnswer(request, frame []byte) string {
	req, err := decodeRequest(request)
	if err != nil {
		return err.Error()
	}
	resp := req.ResponseKind().(*kmsg.EndTxnResponse)
	body := frame[4:]
	if req.IsFlexible() && len(body) > 0 {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		return err.Error()
	}
	if resp.ErrorCode == 0 {
		return "success"
	}
	return kerr.TypedErrorForCode(resp.ErrorCode).Message
}
