package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// recorder is a proxy between clients and a broker that keeps one frame of
// each kind of request as a small file: header and body as they were on the
// wire, without the four bytes of length before them. The broker must advertise
// the proxy's address.
type recorder struct {
	dir    string
	broker string // address
	l      net.Listener

	mu   sync.Mutex
	kept map[string]int
	err  error
}

const (
	// recordedBytes is the largest frame that is kept: enough for every kind.
	recordedBytes = 1500
	// recordedEach is how many frames of one API and version are kept, of
	// different clients.
	recordedEach = 2
)

func newRecorder(dir string) (*recorder, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &recorder{dir: dir, l: l, kept: map[string]int{}}, os.MkdirAll(dir, 0o755)
}

func (r *recorder) addr() string { return r.l.Addr().String() }

// serve forwards connections to the broker until Close.
func (r *recorder) serve(broker string) {
	r.broker = broker
	for {
		client, err := r.l.Accept()
		if err != nil {
			return
		}
		go r.forward(client)
	}
}

func (r *recorder) Close() error {
	err := r.l.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.err)
}

func (r *recorder) forward(client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", r.broker, 5*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(client, server)
		client.Close()
	}()
	for {
		frame, err := readFrame(client, 100<<20)
		if err != nil {
			return
		}
		if err := r.keep(frame); err != nil {
			r.mu.Lock()
			r.err = errors.Join(r.err, err)
			r.mu.Unlock()
		}
		if _, err := server.Write(withLength(frame)); err != nil {
			return
		}
	}
}

// keep writes the frame to a file if there are not yet enough of its kind.
func (r *recorder) keep(frame []byte) error {
	if len(frame) < 10 || len(frame) > recordedBytes {
		return nil
	}
	key, version := int16(binary.BigEndian.Uint16(frame)), binary.BigEndian.Uint16(frame[2:])
	id := "null"
	if n := int16(binary.BigEndian.Uint16(frame[8:])); n >= 0 && len(frame) >= 10+int(n) {
		id = string(frame[10 : 10+int(n)])
	}
	// rdkafka, kgo, console-producer, kafka-python-producer-1, ...
	id = strings.Trim(regexp.MustCompile(`[^a-z]+`).ReplaceAllString(strings.ToLower(id), "-"), "-")
	kind := fmt.Sprintf("%02d-%s-v%d", key, kmsg.NameForKey(key), version)
	name := filepath.Join(r.dir, fmt.Sprintf("%s-%.20s", kind, id))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept[kind] >= recordedEach || r.kept[name] > 0 {
		return nil
	}
	r.kept[kind]++
	r.kept[name]++
	return os.WriteFile(name, frame, 0o644)
}

// readFrame reads a length and as many bytes.
func readFrame(in io.Reader, limit uint32) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > limit {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(in, frame)
	return frame, err
}

func withLength(frame []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame))), frame...)
}
