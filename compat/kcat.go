package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// kcat drives the command line tool kcat (librdkafka), as a person would.
type kcat struct {
	bootstrap string
	log       io.Writer
}

// fieldSeparator and recordSeparator frame keys, values and records on the
// standard input and output of command line tools; no key or value holds them.
const (
	fieldSeparator  = "\x1f"
	recordSeparator = "\x1e"
)

func (k *kcat) run(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	return output(exec.CommandContext(ctx, "kcat", append([]string{"-b", k.bootstrap}, args...)...), stdin, k.log)
}

// output runs a command and returns its standard output; its error output goes
// to log, and its last line into the error.
func output(cmd *exec.Cmd, stdin io.Reader, log io.Writer) ([]byte, error) {
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, io.MultiWriter(log, &errOut)
	err := cmd.Run()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(errOut.String()), "\n")
		err = fmt.Errorf("%s: %w: %s", cmd.Args[0], err, lines[len(lines)-1])
	}
	return out.Bytes(), err
}

func (k *kcat) Version(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "kcat", "-V"), nil, k.log)
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "Version "); ok {
			version, rest, _ := strings.Cut(rest, " ")
			_, rest, _ = strings.Cut(rest, "librdkafka ")
			librdkafka, _, _ := strings.Cut(rest, " ")
			return fmt.Sprintf("%s (librdkafka %s)", version, librdkafka), err
		}
	}
	return "", errors.Join(err, fmt.Errorf("no version in %.100q", out))
}

// Produce groups the records by what one run of kcat can send: records with
// nulls need a flag under which nothing is empty, headers are the same for all
// records of a run.
func (k *kcat) Produce(ctx context.Context, topic, codec string, idempotent bool, rs []record) error {
	var plain, nulls bytes.Buffer
	for _, r := range rs {
		into := &plain
		if r.Key == nil || r.Value == nil {
			into = &nulls
		}
		if r.Headers != nil {
			into = &bytes.Buffer{}
		}
		into.Write(r.Key)
		into.WriteString(fieldSeparator)
		into.Write(r.Value)
		into.WriteString(recordSeparator)
		if r.Headers != nil {
			if err := k.produce(ctx, topic, codec, idempotent, into, r.Headers, nil); err != nil {
				return err
			}
		}
	}
	if err := k.produce(ctx, topic, codec, idempotent, &plain, nil, nil); err != nil {
		return err
	}
	return k.produce(ctx, topic, codec, idempotent, &nulls, nil, []string{"-Z"})
}

func (k *kcat) produce(ctx context.Context, topic, codec string, idempotent bool, in *bytes.Buffer, hs []header, more []string) error {
	if in.Len() == 0 {
		return nil
	}
	args := append([]string{"-P", "-t", topic, "-z", codec, "-K", fieldSeparator, "-D", recordSeparator,
		"-X", "message.max.bytes=1100000", "-X", "acks=all", "-X", "linger.ms=50",
		"-X", "enable.idempotence=" + strconv.FormatBool(idempotent)}, more...)
	for _, h := range hs {
		args = append(args, "-H", h.Name+"="+string(h.Value))
	}
	_, err := k.run(ctx, in, args...)
	return err
}

func (k *kcat) Feed(topic, codec string) *exec.Cmd {
	cmd := exec.Command("kcat", "-b", k.bootstrap, "-E", "-P", "-t", topic, "-z", codec, "-K", fieldSeparator,
		"-X", "enable.idempotence=true", "-X", "acks=all", "-X", "linger.ms=20",
		"-X", "message.timeout.ms=300000", "-X", "reconnect.backoff.max.ms=500",
		"-X", "queue.buffering.max.messages=1000000")
	cmd.Stderr = k.log
	return cmd
}

// Consume runs a kcat for each member, the last of them to come ends all.
func (k *kcat) Consume(ctx context.Context, topic, group string, members, count int) ([]record, error) {
	// Lengths tell null (-1) from empty.
	format := strings.Join([]string{"%p", "%o", "%T", "%K", "%k", "%S", "%s", "%h"}, fieldSeparator) + recordSeparator
	args := []string{"-b", k.bootstrap, "-G", group, "-u", "-q", "-f", format, "-X", "auto.offset.reset=earliest"}
	if members == 1 {
		args = append(args, "-c", strconv.Itoa(count))
	}
	cmds := make([]*exec.Cmd, members)
	for i := range cmds {
		cmds[i] = exec.CommandContext(ctx, "kcat", append(args, topic)...)
		cmds[i].Stderr = k.log
	}
	return readTogether(cmds, members > 1, count, []byte(recordSeparator), parseKcat)
}

// readTogether runs commands that print records until count of them came, and
// ends them with SIGTERM if they do not end by themselves.
func readTogether(cmds []*exec.Cmd, terminate bool, count int, end []byte, parse func([]byte) (record, error)) ([]record, error) {
	var (
		mu   sync.Mutex
		out  []record
		errs []error
		wg   sync.WaitGroup
	)
	signal := sync.OnceFunc(func() {
		for _, c := range cmds {
			c.Process.Signal(syscall.SIGTERM)
		}
	})
	for i, c := range cmds {
		pipe, err := c.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := c.Start(); err != nil {
			for _, started := range cmds[:i] {
				started.Process.Kill()
			}
			wg.Wait()
			return nil, err
		}
		wg.Go(func() {
			err := splitRecords(pipe, end, func(b []byte) error {
				r, err := parse(b)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				r.Member = i
				out = append(out, r)
				if terminate && len(out) == count {
					signal()
				}
				return nil
			})
			if waitErr := c.Wait(); !terminate {
				err = errors.Join(err, waitErr)
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

func parseKcat(b []byte) (record, error) {
	var r record
	f := bytes.SplitN(b, []byte(fieldSeparator), 8)
	if len(f) != 8 {
		return r, fmt.Errorf("kcat printed %.200q", b)
	}
	partition, err1 := strconv.Atoi(string(f[0]))
	offset, err2 := strconv.ParseInt(string(f[1]), 10, 64)
	timestamp, err3 := strconv.ParseInt(string(f[2]), 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return r, err
	}
	r = record{Partition: int32(partition), Offset: offset, Timestamp: timestamp}
	if string(f[3]) != "-1" {
		r.Key = bytes.Clone(f[4])
	}
	if string(f[5]) != "-1" {
		r.Value = bytes.Clone(f[6])
	}
	for pair := range strings.SplitSeq(string(f[7]), ",") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			h := header{Name: name, Value: []byte(value)}
			if value == "NULL" {
				h.Value = nil
			}
			r.Headers = append(r.Headers, h)
		}
	}
	return r, nil
}

func (k *kcat) Times(ctx context.Context, topic string, partitions int, timestamp int64) (map[int32]int64, error) {
	args := []string{"-Q"}
	for p := range partitions {
		args = append(args, "-t", fmt.Sprintf("%s:%d:%d", topic, p, timestamp))
	}
	out, err := k.run(ctx, nil, args...)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for line := range strings.Lines(string(out)) {
		var p int32
		var o int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(line, topic), " [%d] offset %d", &p, &o); err != nil {
			return nil, fmt.Errorf("kcat printed %q: %w", line, err)
		}
		offsets[p] = o
	}
	return offsets, nil
}
