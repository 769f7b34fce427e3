package broker

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/internal/pipenet"
	"github.com/rotpeter/rotpeter/internal/vfs"
)

// harness is a broker in this process on an in-memory network, with fake time.
type harness struct {
	t    *testing.T
	b    *Broker
	net  atomic.Pointer[pipenet.Listener]
	fs   vfs.FS
	set  []string
	auth Authorizer
	lg   *slog.Logger // nil: discarded
	ids  atomic.Uint64
}

// inBubble runs f with a broker in a synctest bubble: waiting costs nothing.
func inBubble(t *testing.T, f func(h *harness), set ...string) {
	t.Helper()
	onDisk(t, func() vfs.FS { return vfs.NewMem() }, f, set...)
}

// onDisk is inBubble with a disk of the test's own.
func onDisk(t *testing.T, disk func() vfs.FS, f func(h *harness), set ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, fs: disk(), set: set}
		h.start()
		defer h.stop()
		f(h)
	})
}

func (h *harness) start() {
	h.t.Helper()
	if err := h.tryStart(); err != nil {
		h.t.Fatal(err)
	}
}

// tryStart is for disks that a broker may refuse.
func (h *harness) tryStart() error {
	h.t.Helper()
	source, err := config.ParseOverrides("--set", append([]string{"log.dirs=data", "listeners=PLAINTEXT://127.0.0.1:9092"}, h.set...))
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := config.Load(source)
	if err != nil {
		h.t.Fatal(err)
	}
	h.net.Store(pipenet.Listen("127.0.0.1:9092"))
	h.b, err = Start(h.t.Context(), Options{
		Config: c, FS: h.fs, Dir: c.MetadataLogDir(), LogDirs: c.LogDirs(), Authorizer: h.auth, Log: h.lg,
		Listeners: []Listener{{Name: "PLAINTEXT", Net: h.net.Load(), Host: "127.0.0.1", Port: 9092}},
		NewID:     h.newID,
		Random:    func() int32 { return int32(h.ids.Add(1)) },
	})
	return err
}

func (h *harness) newID() (id [16]byte) {
	id[0] = 0x10
	binary.BigEndian.PutUint64(id[8:], h.ids.Add(1))
	return id
}

func (h *harness) stop() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.b.Close(ctx); err != nil {
		h.t.Errorf("close: %v", err)
	}
}

// restart stops the broker cleanly and starts it again on the same disk.
func (h *harness) restart() {
	h.t.Helper()
	h.stop()
	h.start()
}

// client is a franz-go client of the broker, closed when the test function ends.
func (h *harness) client(opts ...kgo.Opt) *kgo.Client {
	h.t.Helper()
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		return h.net.Load().DialContext(ctx, network, addr)
	} // of the broker that runs then
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(dial), kgo.AllowAutoTopicCreation(), kgo.DisableClientMetrics(), kgo.WithDecompressor(decompressor{})}, opts...)...)
	if err != nil {
		h.t.Fatal(err)
	}
	return cl
}

// decompressor is kgo's own, but for zstd: kgo leaves the closing of those decoders
// to the garbage collector, which is outside of the bubble they were made in.
type decompressor struct{}

func (decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec != kgo.CodecZstd {
		return kgo.DefaultDecompressor().Decompress(src, codec)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.DecodeAll(src, nil)
}

// ask sends one request at its own version and returns the answer.
func ask[R kmsg.Response](h *harness, cl *kgo.Client, req kmsg.Request) R {
	h.t.Helper()
	resp, err := cl.Request(h.t.Context(), req)
	if err != nil {
		h.t.Fatalf("%s: %v", kmsg.NameForKey(req.Key()), err)
	}
	return resp.(R)
}

// rawConn speaks frames without a client's own opinions.
type rawConn struct {
	h  *harness
	nc net.Conn
	id int32
}

func (h *harness) raw() *rawConn {
	h.t.Helper()
	nc, err := h.net.Load().Dial()
	if err != nil {
		h.t.Fatal(err)
	}
	return &rawConn{h: h, nc: nc}
}

// send writes one request at exactly the given version.
func (c *rawConn) send(req kmsg.Request, version int16) {
	c.h.t.Helper()
	req.SetVersion(version)
	c.id++
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw"))
	if _, err := c.nc.Write(f.AppendRequest(nil, req, c.id)); err != nil {
		c.h.t.Fatalf("send %s v%d: %v", kmsg.NameForKey(req.Key()), version, err)
	}
}

// receive reads one answer, without its length and correlation id.
func (c *rawConn) receive() ([]byte, error) {
	c.h.t.Helper()
	if err := c.nc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := readFull(c.nc, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := readFull(c.nc, body); err != nil {
		return nil, err
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != c.id {
		return nil, fmt.Errorf("correlation id %d, want %d", got, c.id)
	}
	return body[4:], nil
}

func readFull(c net.Conn, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := c.Read(b[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// call sends a request at a version and decodes the answer.
func (c *rawConn) call(req kmsg.Request, version int16) (kmsg.Response, error) {
	c.h.t.Helper()
	c.send(req, version)
	body, err := c.receive()
	if err != nil {
		return nil, err
	}
	return c.decode(req, version, body)
}

// decode reads the answer to a request.
func (c *rawConn) decode(req kmsg.Request, version int16, body []byte) (kmsg.Response, error) {
	resp := req.ResponseKind()
	resp.SetVersion(version)
	if resp.IsFlexible() && req.Key() != keyApiVersions {
		if len(body) == 0 || body[0] != 0 {
			return nil, fmt.Errorf("a flexible answer begins with its header's tags")
		}
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// golden rewrites generated files and expectations: make golden, make docs.
var golden = flag.Bool("golden", false, "rewrite generated files and expectations")
