// Package null is the null broker: the smallest server that answers the requests
// of the benchmarks and stores nothing but one write for each batch. It says what
// a machine, Go and a client allow; a broker that does its work is measured
// against it. It forgets everything when it ends.
//
// Produce 3 to 8 and Fetch 4 to 11 are read and written by hand, everything
// else by kmsg. A batch's CRC is checked, records of a fetch go by sendfile.
package null

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxFrame is the largest request, in bytes.
const maxFrame = 128 << 20

// Server is a null broker. Its fields are set before Serve.
type Server struct {
	Dir        string // where the files are, one for each partition
	Partitions int    // of a topic that is made by asking for it

	mu     sync.Mutex
	topics map[string]*topic
	addr   *net.TCPAddr
	nextID int64
}

type topic struct {
	name       string
	id         [16]byte
	partitions []*partition
}

// Serve answers connections until the listener is closed.
func (s *Server) Serve(l net.Listener) error {
	s.topics = map[string]*topic{}
	s.addr = l.Addr().(*net.TCPAddr)
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			c := &conn{s: s, nc: nc.(*net.TCPConn), in: bufio.NewReaderSize(nc, 64<<10)}
			_ = c.serve() // a client that leaves is no news
			_ = nc.Close()
		}()
	}
}

// topic finds a topic, or makes it with some partitions; 0 makes none.
func (s *Server) topic(name string, partitions int) (*topic, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.topics[name]; t != nil || partitions == 0 {
		return t, nil
	}
	t := &topic{name: name}
	s.nextID++
	binary.BigEndian.PutUint64(t.id[:], 1<<60)
	binary.BigEndian.PutUint64(t.id[8:], uint64(s.nextID))
	for i := range partitions {
		f, err := os.Create(filepath.Join(s.Dir, fmt.Sprintf("%s-%d", name, i)))
		if err != nil {
			return nil, err
		}
		t.partitions = append(t.partitions, &partition{file: f, fd: int(f.Fd())})
	}
	s.topics[name] = t
	return t, nil
}

// remove forgets a topic. Its files are gone when they are closed by the garbage collector.
func (s *Server) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.topics[name]; t != nil {
		for _, p := range t.partitions {
			_ = os.Remove(p.file.Name()) // a name that stays is of no matter
		}
		delete(s.topics, name)
	}
}

// partition is a file of batches and where each of them begins.
type partition struct {
	file *os.File
	fd   int

	mu      sync.Mutex
	batches []place
	end     place // of what was written
	waiting map[chan struct{}]bool
}

// place is the first offset of a batch and its position in the file.
type place struct{ offset, pos int64 }

const (
	batchHeader = 61
	crcFrom     = 21
)

// append writes a batch and answers its first offset.
func (p *partition) append(b []byte) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.end
	binary.BigEndian.PutUint64(b, uint64(at.offset))
	if _, err := p.file.WriteAt(b, at.pos); err != nil {
		return 0, err
	}
	p.batches = append(p.batches, at)
	p.end.offset += int64(binary.BigEndian.Uint32(b[23:])) + 1
	p.end.pos += int64(len(b))
	for w := range p.waiting {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return at.offset, nil
}

// conn is one connection, served by one goroutine.
type conn struct {
	s     *Server
	nc    *net.TCPConn
	in    *bufio.Reader
	frame []byte
	out   []byte
}

// serve answers requests in order. It writes when no further request has arrived.
func (c *conn) serve() error {
	for {
		if c.in.Buffered() == 0 && len(c.out) > 0 {
			if err := c.flush(); err != nil {
				return err
			}
		}
		var size [4]byte
		if _, err := io.ReadFull(c.in, size[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		if n < 8 || n > maxFrame {
			return fmt.Errorf("a frame of %d bytes", n)
		}
		if cap(c.frame) < n {
			c.frame = make([]byte, n)
		}
		c.frame = c.frame[:n]
		if _, err := io.ReadFull(c.in, c.frame); err != nil {
			return err
		}
		if err := c.answer(); err != nil {
			return err
		}
	}
}

func (c *conn) flush() error {
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// answer handles the request in c.frame.
func (c *conn) answer() error {
	r := reader{b: c.frame}
	key, version, correlation := r.i16(), r.i16(), r.i32()
	r.string() // client id
	switch key {
	case 0:
		return c.produce(&r, version, correlation)
	case 1:
		return c.fetch(&r, version, correlation)
	}
	req := kmsg.RequestForKey(key)
	if req == nil || r.failed {
		return fmt.Errorf("api %d is not served", key)
	}
	req.SetVersion(version)
	if req.IsFlexible() {
		r.skipTags()
	}
	if err := req.ReadFrom(r.b); err != nil {
		return err
	}
	resp, err := c.s.other(req)
	if err != nil {
		return err
	}
	start := len(c.out)
	c.out = binary.BigEndian.AppendUint32(c.out, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(correlation))
	if resp.IsFlexible() && key != 18 {
		c.out = append(c.out, 0)
	}
	c.out = resp.AppendTo(c.out)
	binary.BigEndian.PutUint32(c.out[start:], uint32(len(c.out)-start-4))
	return nil
}

// reader reads a request by hand.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.failed = true
		return make([]byte, 8)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) i8() int8   { return int8(r.take(1)[0]) }
func (r *reader) i16() int16 { return int16(binary.BigEndian.Uint16(r.take(2))) }
func (r *reader) i32() int32 { return int32(binary.BigEndian.Uint32(r.take(4))) }
func (r *reader) i64() int64 { return int64(binary.BigEndian.Uint64(r.take(8))) }

func (r *reader) string() []byte {
	n := int(r.i16())
	if n < 0 {
		return nil
	}
	return r.take(n)
}

// count is the length of an array whose elements have at least one byte.
func (r *reader) count() int {
	n := int(r.i32())
	if n > len(r.b) {
		r.failed = true
	}
	if r.failed || n < 0 {
		return 0
	}
	return n
}

// skipTags reads over tagged fields.
func (r *reader) skipTags() {
	n, size := binary.Uvarint(r.b)
	r.take(size)
	for range n {
		_, size := binary.Uvarint(r.b)
		r.take(size)
		length, size := binary.Uvarint(r.b)
		r.take(size)
		r.take(int(length))
		if r.failed {
			return
		}
	}
}
