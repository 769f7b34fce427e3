package answers

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxFrame bounds a frame in both directions: more than any script needs.
const maxFrame = 64 << 20

const (
	// patience bounds the wait for an answer that is due. It is longer than
	// any wait that a script asks the broker for.
	patience = 5 * time.Second
	// silence is how long a broker says nothing before it counts as nothing.
	silence = 300 * time.Millisecond
)

const (
	answerClosed  = "closed\n"
	answerNothing = "nothing\n"
)

// conn is one connection of a script.
type conn struct {
	net.Conn
	r    *bufio.Reader
	due  []*block // sent, in order; their answers come in this order
	last int32    // correlation id
	ids  []int32  // of due
}

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, r: bufio.NewReader(c)}, nil
}

// send writes one request. A broken connection is noticed when the answer is read.
func (c *conn) send(b *block, req kmsg.Request) {
	c.last++
	c.due, c.ids = append(c.due, b), append(c.ids, c.last)
	c.SetWriteDeadline(time.Now().Add(patience))
	c.Write(frame(b, req, c.last))
}

// expectNone takes back the last request: it has no answer (acks=0).
func (c *conn) expectNone() {
	c.due, c.ids = c.due[:len(c.due)-1], c.ids[:len(c.ids)-1]
}

// frame encodes a request with its header.
func frame(b *block, req kmsg.Request, id int32) []byte {
	out := make([]byte, 4, 256)
	out = binary.BigEndian.AppendUint16(out, uint16(req.Key()))
	out = binary.BigEndian.AppendUint16(out, uint16(req.GetVersion()))
	out = binary.BigEndian.AppendUint32(out, uint32(id))
	if b.client == nil {
		out = append(out, 0xff, 0xff)
	} else {
		out = binary.BigEndian.AppendUint16(out, uint16(len(*b.client)))
		out = append(out, *b.client...)
	}
	if req.IsFlexible() {
		out = append(out, 0)
	}
	if b.tagData != nil {
		tags := reflect.ValueOf(req).Elem().FieldByName("UnknownTags").Addr().Interface().(*kmsg.Tags)
		tags.Set(b.tag, b.tagData)
	}
	out = req.AppendTo(out)
	out = append(out[:max(4, len(out)-b.cut)], b.extra...)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

var (
	errClosed  = errors.New("the connection was closed")
	errSilence = errors.New("nothing came")
)

// read reads one frame.
func (c *conn) read(within time.Duration) ([]byte, error) {
	c.SetReadDeadline(time.Now().Add(within))
	var size [4]byte
	if _, err := io.ReadFull(c.r, size[:]); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errSilence
		}
		return nil, errClosed
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return nil, fmt.Errorf("a frame of %d bytes is cut off: %w", n, err)
	}
	return b, nil
}

// receive reads the answer that is due next and shows it.
func (c *conn) receive(n *names) (string, error) {
	if len(c.due) == 0 {
		return "", errors.New("no answer is due on this connection")
	}
	b, id := c.due[0], c.ids[0]
	c.due, c.ids = c.due[1:], c.ids[1:]
	f, err := c.read(patience)
	switch {
	case errors.Is(err, errClosed):
		return answerClosed, nil
	case errors.Is(err, errSilence):
		return answerNothing, nil
	case err != nil:
		return "", err
	}
	return showAnswer(b, id, f, n)
}

// showAnswer decodes a frame as the answer to a block's request.
func showAnswer(b *block, id int32, f []byte, n *names) (string, error) {
	resp := b.req.ResponseKind()
	version := b.req.GetVersion()
	if b.req.Key() == int16(kmsg.ApiVersions) && len(f) > 6 && f[4] == 0 && f[5] == 35 {
		version = 0 // how a broker answers a version that it does not know (KIP-511)
	}
	resp.SetVersion(version)
	header := 4
	if resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions) {
		header = 5
	}
	if len(f) < header || int32(binary.BigEndian.Uint32(f)) != id || header == 5 && f[4] != 0 {
		return fmt.Sprintf("a header that does not fit: %s\n", showBytes(f)), nil
	}
	body := f[header:]
	if err := resp.ReadFrom(body); err != nil {
		return fmt.Sprintf("an answer that does not decode (%v): %s\n", err, hex.EncodeToString(body)), nil
	}
	sh, err := shapeOf(func() message { return b.req.ResponseKind().(message) }, version)
	if err != nil {
		return "", err
	}
	s := &shower{names: n, shape: sh, api: b.verb, only: b.only, hide: b.hide}
	text := s.show(resp.(message))
	if again := resp.AppendTo(nil); string(again) != string(body) {
		text += fmt.Sprintf("not encoded as usual: %s, usual %s\n", hex.EncodeToString(body), hex.EncodeToString(again))
	}
	return text, nil
}

// raw sends bytes and shows whatever comes.
func (c *conn) raw(text string) (string, error) {
	b, err := fromHex(text)
	if err != nil {
		return "", err
	}
	c.SetWriteDeadline(time.Now().Add(patience))
	c.Write(b)
	f, err := c.read(silence)
	switch {
	case errors.Is(err, errClosed):
		return answerClosed, nil
	case errors.Is(err, errSilence):
		return answerNothing, nil
	case err != nil:
		return "", err
	}
	return hex.EncodeToString(f) + "\n", nil
}

// fromHex reads hex with white space in it.
func fromHex(s string) ([]byte, error) {
	return hex.DecodeString(strings.Join(strings.Fields(s), ""))
}
