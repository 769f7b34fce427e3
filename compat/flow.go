package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// feed has a feeder produce all of in.
func feed(ctx context.Context, f feeder, topic, codec string, in io.Reader) error {
	cmd := f.Feed(topic, codec)
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s ended: %w", filepath.Base(cmd.Path), errors.Join(err, ctx.Err()))
	}
	return nil
}

// feedFile is feed from a corpus's file.
func feedFile(ctx context.Context, f feeder, topic, codec string, c *corpus) error {
	in, err := os.Open(c.path)
	if err != nil {
		return err
	}
	defer in.Close()
	return feed(ctx, f, topic, codec, in)
}

// inLog reads a topic from the beginning and holds it against the corpus:
// every line exactly once and in order, and compressed as asked.
func inLog(ctx context.Context, ref *reference, topic, codec string, c *corpus) error {
	t := newTally(c)
	other := ""
	err := ref.each(ctx, topic, func(k *kgo.Record) {
		t.add(k.Partition, k.Offset, k.Key, k.Value)
		if got := codecs()[k.Attrs.CompressionType()]; got != codec {
			other = got
		}
	})
	if err == nil {
		err = t.verdict(false)
	}
	// librdkafka leaves a batch uncompressed that would not get smaller.
	if err == nil && other != "" && other != "none" {
		err = fmt.Errorf("a batch is compressed with %s instead of %s", other, codec)
	}
	if err != nil {
		return fmt.Errorf("in the log: %w", err)
	}
	return nil
}

// drain is a consumer group of processes that reads a topic into files, and
// the tally of what it has read.
type drain struct {
	dir   string
	cmds  []*exec.Cmd
	ended chan error // one for each command, when it ended
	tally *tally
	files map[string]*tail
}

// tail is how far an output file has been read.
type tail struct {
	lines int
	from  int64
	last  map[int32]int64 // last offset of each partition
}

// startDrain starts the members of a group.
func startDrain(d drainer, topic, group string, members int, dir string, c *corpus) (*drain, error) {
	cmds, err := d.Drain(topic, group, members, dir)
	if err != nil {
		return nil, err
	}
	out := &drain{dir: dir, cmds: cmds, ended: make(chan error, len(cmds)), tally: newTally(c), files: map[string]*tail{}}
	for i, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			for _, started := range cmds[:i] {
				started.Process.Kill()
			}
			return nil, err
		}
		go func() { out.ended <- cmd.Wait() }()
	}
	return out, nil
}

// poll adds to the tally what came since the last poll, and answers how many
// records that were.
func (d *drain) poll() (int, error) {
	names, err := filepath.Glob(filepath.Join(d.dir, "*.out"))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range names {
		t := d.files[name]
		if t == nil {
			t = &tail{last: map[int32]int64{}}
			d.files[name] = t
		}
		before := t.lines
		if err := t.read(name, d.tally); err != nil {
			return n, fmt.Errorf("%s: %w", filepath.Base(d.dir), err)
		}
		n += t.lines - before
	}
	return n, nil
}

// read reads whole lines from where the last read ended.
func (t *tail) read(name string, into *tally) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, t.from, 1<<62))
	if err != nil {
		return err
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	t.from += int64(len(b))
	for line := range bytes.Lines(b) {
		partition, offset, key, value, err := parseDrained(line)
		if err != nil {
			return err
		}
		t.last[partition] = offset
		t.lines++
		into.add(partition, offset, key, value)
	}
	return nil
}

// parseDrained takes a line of a drainer apart: partition, offset, key, value.
// The console consumer writes "Partition:" and "Offset:" before the numbers.
func parseDrained(line []byte) (partition int32, offset int64, key, value []byte, err error) {
	f := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(fieldSeparator), 4)
	if len(f) != 4 {
		return 0, 0, nil, nil, fmt.Errorf("a reader wrote %.200q", line)
	}
	p, err1 := strconv.ParseInt(strings.TrimPrefix(string(f[0]), "Partition:"), 10, 32)
	offset, err2 := strconv.ParseInt(strings.TrimPrefix(string(f[1]), "Offset:"), 10, 64)
	return int32(p), offset, f[2], f[3], errors.Join(err1, err2)
}

// drainIdle is how long a group may read nothing before it is given up.
const drainIdle = 60 * time.Second

// finish waits until every line was read, stops the group and reads the rest of
// its output.
func (d *drain) finish(ctx context.Context) error {
	last := time.Now()
	for !d.tally.complete() && time.Since(last) < drainIdle && ctx.Err() == nil {
		n, err := d.poll()
		if err != nil {
			return errors.Join(err, d.stop())
		}
		if n > 0 {
			last = time.Now()
		}
		select {
		case err := <-d.ended:
			d.ended <- err
			return errors.Join(errors.New("a reader ended before everything was read"), d.stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := d.stop(); err != nil {
		return err
	}
	_, err := d.poll()
	return errors.Join(err, ctx.Err())
}

// stop sends SIGTERM and waits for the processes to commit and leave.
func (d *drain) stop() error {
	for _, c := range d.cmds {
		c.Process.Signal(syscall.SIGTERM)
	}
	timer := time.AfterFunc(30*time.Second, func() {
		for _, c := range d.cmds {
			c.Process.Kill()
		}
	})
	defer timer.Stop()
	var errs []error
	for range d.cmds {
		// The JVM ends with 128 + the number of the signal.
		err := <-d.ended
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 143 {
			err = nil
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop the readers: %w", err)
	}
	return nil
}

// readers is how many members of the group read something.
func (d *drain) readers() int {
	n := 0
	for _, t := range d.files {
		if t.lines > 0 {
			n++
		}
	}
	return n
}

// committed says whether a group's commits are at the end of the topic. A
// partition that nothing was ever written to may have no commit.
func committed(ctx context.Context, ref *reference, topic, group string) error {
	offsets, err := ref.admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	starts, ends, err := ref.ends(ctx, topic)
	if err != nil {
		return err
	}
	var behind []string
	for p, end := range ends {
		o, ok := offsets.Lookup(topic, p)
		if at := o.At; ok && at != end || !ok && end > starts[p] {
			behind = append(behind, fmt.Sprintf("%d at %d of %d", p, at, end))
		}
	}
	slices.Sort(behind)
	if len(behind) > 0 {
		return fmt.Errorf("commits of %s are not at the end of %s: partitions %s", group, topic, strings.Join(behind, ", "))
	}
	return nil
}
