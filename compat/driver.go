package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// driver is a client library behind a process of its own: a request is a line
// {"op": NAME, "args": {...}}, an answer a line {"ok": VALUE} or {"error": TEXT}.
// The operations are the methods below, args and values as their types say;
// bytes are base64, null is null.
type driver struct {
	argv []string // program and arguments up to the mode, which is added
	log  io.Writer

	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// driverSeconds is how long a driver tries to consume before it answers what it has.
const driverSeconds = 30

func (d *driver) start() error {
	d.cmd = exec.Command(d.argv[0], append(d.argv[1:len(d.argv):len(d.argv)], "serve")...)
	d.cmd.Stderr = d.log
	in, err := d.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	d.in, d.out = in, bufio.NewReaderSize(out, 1<<20)
	return d.cmd.Start()
}

// call sends one request and waits for its answer. A driver that does not
// answer before ctx ends is killed; the next call starts another.
func (d *driver) call(ctx context.Context, op string, args map[string]any, value any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		if err := d.start(); err != nil {
			return fmt.Errorf("start %s: %w", d.argv[0], err)
		}
	}
	stop := context.AfterFunc(ctx, func() { d.cmd.Process.Kill() })
	defer stop()
	var reply struct {
		OK    json.RawMessage `json:"ok"`
		Error *string         `json:"error"`
	}
	request, err := json.Marshal(map[string]any{"op": op, "args": args})
	if err == nil {
		_, err = d.in.Write(append(request, '\n'))
	}
	var line []byte
	if err == nil {
		line, err = d.out.ReadBytes('\n')
	}
	if err != nil {
		d.stop()
		return fmt.Errorf("%s: the driver ended: %w", op, errors.Join(err, ctx.Err()))
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return fmt.Errorf("%s: answer %.200q: %w", op, line, err)
	}
	if reply.Error != nil {
		return fmt.Errorf("%s: %s", op, *reply.Error)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(reply.OK, value)
}

// stop ends the process: its input ends, and if that does not help it is killed.
func (d *driver) stop() {
	if d.cmd == nil {
		return
	}
	d.in.Close()
	timer := time.AfterFunc(5*time.Second, func() { d.cmd.Process.Kill() })
	d.cmd.Wait()
	timer.Stop()
	d.cmd = nil
}

// Close ends the driver.
func (d *driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop()
	return nil
}

func (d *driver) Version(ctx context.Context) (v string, err error) {
	return v, d.call(ctx, "version", nil, &v)
}

func (d *driver) Create(ctx context.Context, topic string, partitions int) error {
	return d.call(ctx, "create", map[string]any{"topic": topic, "partitions": partitions}, nil)
}

func (d *driver) Topics(ctx context.Context) (names []string, err error) {
	return names, d.call(ctx, "topics", nil, &names)
}

func (d *driver) Describe(ctx context.Context, topic string) (t description, err error) {
	return t, d.call(ctx, "describe", map[string]any{"topic": topic}, &t)
}

func (d *driver) Delete(ctx context.Context, topic string) error {
	return d.call(ctx, "delete", map[string]any{"topic": topic}, nil)
}

func (d *driver) Produce(ctx context.Context, topic, codec string, idempotent bool, rs []record) error {
	return d.call(ctx, "produce", map[string]any{"topic": topic, "codec": codec, "idempotent": idempotent, "records": rs}, nil)
}

func (d *driver) Consume(ctx context.Context, topic, group string, members, count int) (rs []record, err error) {
	args := map[string]any{"topic": topic, "group": group, "members": members, "count": count, "seconds": driverSeconds}
	return rs, d.call(ctx, "consume", args, &rs)
}

func (d *driver) Times(ctx context.Context, topic string, partitions int, timestamp int64) (offsets map[int32]int64, err error) {
	args := map[string]any{"topic": topic, "partitions": partitions, "timestamp": timestamp}
	return offsets, d.call(ctx, "times", args, &offsets)
}

func (d *driver) Groups(ctx context.Context) (names []string, err error) {
	return names, d.call(ctx, "groups", nil, &names)
}

func (d *driver) Group(ctx context.Context, group, topic string) (g groupInfo, err error) {
	return g, d.call(ctx, "group", map[string]any{"group": group, "topic": topic}, &g)
}

func (d *driver) DeleteGroup(ctx context.Context, group string) error {
	return d.call(ctx, "delete_group", map[string]any{"group": group}, nil)
}

// drainDriver is a driver that can also drain a topic.
type drainDriver struct{ *driver }

func (d drainDriver) Drain(topic, group string, members int, dir string) ([]*exec.Cmd, error) {
	argv := append(d.argv[1:len(d.argv):len(d.argv)], "drain", topic, group, strconv.Itoa(members), dir)
	cmd := exec.Command(d.argv[0], argv...)
	cmd.Stderr = d.log
	return []*exec.Cmd{cmd}, os.MkdirAll(dir, 0o755)
}

// feedDriver is a driver that can also be fed lines.
type feedDriver struct{ *driver }

func (d feedDriver) Feed(topic, codec string) *exec.Cmd {
	cmd := exec.Command(d.argv[0], append(d.argv[1:len(d.argv):len(d.argv)], "feed", topic, codec)...)
	cmd.Stderr = d.log
	return cmd
}
