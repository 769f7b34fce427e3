package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// hostileCase opens connections that mean no good and closes them again; it
// answers how many there were.
type hostileCase struct {
	name string
	run  func(ctx context.Context, t *target) (int, error)
}

// idleConnections is how many connections stay idle at a time.
const idleConnections = 10_000

func hostileCases() []hostileCase {
	length := func(n int32) func(context.Context, *target) (int, error) {
		return func(ctx context.Context, t *target) (int, error) {
			return sendAndClosed(ctx, t.bootstrap, binary.BigEndian.AppendUint32(nil, uint32(n)))
		}
	}
	return []hostileCase{
		{"length 0", length(0)},
		{"length -1", length(-1)},
		{"length 2^31-1", length(1<<31 - 1)},
		{"100 MiB promised, then silence", promiseMuch},
		{"one byte at a time", dribble},
		{"half-open in the middle of a frame", halfOpen},
		{"10,000 idle connections", manyIdle},
		{"TLS hello to the plain port", tlsHello},
		{"HTTP to the Kafka port", func(ctx context.Context, t *target) (int, error) {
			return sendAndClosed(ctx, t.bootstrap, []byte("GET / HTTP/1.1\r\nHost: broker\r\n\r\n"))
		}},
		{"10,000 pipelined requests, no answer read", pipelineUnread},
	}
}

func dial(ctx context.Context, addr string) (*net.TCPConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// sendAndClosed sends bytes that must make the broker close the connection.
func sendAndClosed(ctx context.Context, addr string, b []byte) (int, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.Write(b); err != nil {
		return 0, err
	}
	return 1, readClosed(conn, 5*time.Second)
}

// apiVersions is a request frame, version 0, as every client may send it.
func apiVersions(correlation uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, 18)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint32(b, correlation)
	return withLength(append(b, 0xff, 0xff)) // null client id
}

// promiseMuch announces the largest frames that are allowed and sends a header
// only: memory is for what came, not for what was announced.
func promiseMuch(ctx context.Context, t *target) (int, error) {
	n := 20
	if t.http == "" {
		n = 4 // Apache Kafka takes the memory at once, and runs out of it with more
	}
	before := t.megabytes("VmRSS")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range n {
		conn, err := dial(ctx, t.bootstrap)
		if err != nil {
			return 0, err
		}
		conns = append(conns, conn)
		b := binary.BigEndian.AppendUint32(nil, 100<<20)
		b = append(b, 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0) // Produce v9
		if _, err := conn.Write(b); err != nil {
			return 0, err
		}
	}
	time.Sleep(time.Second)
	if after := t.megabytes("VmRSS"); t.http != "" && after > before+100 {
		return 0, fmt.Errorf("memory went from %.0f to %.0f MB for %d announced frames", before, after, n)
	}
	return n, nil
}

// dribble sends an honest request a byte at a time: it is answered.
func dribble(ctx context.Context, t *target) (int, error) {
	conn, err := dial(ctx, t.bootstrap)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for _, b := range apiVersions(7) {
		if _, err := conn.Write([]byte{b}); err != nil {
			return 0, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	frame, err := readFrame(conn, 1<<20)
	if err == nil && (len(frame) < 4 || binary.BigEndian.Uint32(frame) != 7) {
		err = fmt.Errorf("answer %.20x has another correlation id", frame)
	}
	return 1, err
}

// halfOpen sends half a frame and says that nothing follows.
func halfOpen(ctx context.Context, t *target) (int, error) {
	conn, err := dial(ctx, t.bootstrap)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.Write(apiVersions(1)[:9]); err != nil {
		return 0, err
	}
	if err := conn.CloseWrite(); err != nil {
		return 0, err
	}
	return 1, readClosed(conn, 5*time.Second)
}

func manyIdle(ctx context.Context, t *target) (int, error) {
	conns := make([]net.Conn, 0, idleConnections)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range idleConnections {
		conn, err := dial(ctx, t.bootstrap)
		if err != nil {
			return 0, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, conn)
	}
	// They were accepted, not only queued by the kernel: the last is served.
	if _, err := conns[len(conns)-1].Write(apiVersions(1)); err != nil {
		return 0, err
	}
	conns[len(conns)-1].SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := readFrame(conns[len(conns)-1], 1<<20)
	return len(conns), err
}

func tlsHello(ctx context.Context, t *target) (int, error) {
	conn, err := dial(ctx, t.bootstrap)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	if err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		return 0, fmt.Errorf("the TLS hello was not refused: %w", err)
	}
	return 1, nil
}

// pipelineUnread sends requests and takes no answer until the broker stops
// reading, then takes all of them.
func pipelineUnread(ctx context.Context, t *target) (int, error) {
	const n = 10_000
	conn, err := dial(ctx, t.bootstrap)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if _, err := conn.Write(apiVersions(uint32(i))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	time.Sleep(2 * time.Second)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	for i := range uint32(n) {
		frame, err := readFrame(conn, 1<<20)
		if err != nil {
			return 0, fmt.Errorf("answer %d: %w", i, err)
		}
		if got := binary.BigEndian.Uint32(frame); got != i {
			return 0, fmt.Errorf("answer %d has correlation id %d", i, got)
		}
	}
	return 1, <-sent
}
