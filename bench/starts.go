package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/bench/raw"
)

// firstAck asks until the broker has acknowledged a record in each of the first partitions of the run's topic, which is made if make says so.
func (e *env) firstAck(partitions int, make bool) error {
	deadline := time.Now().Add(2 * startWithin)
	for {
		err := e.tryAck(partitions, make)
		if err == nil {
			return nil
		}
		if err := e.ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no acknowledgement: %w", err)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func (e *env) tryAck(partitions int, make bool) error {
	c, err := raw.Dial(e.ctx, e.broker.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if make {
		if _, err := raw.Ask(e.ctx, e.broker.addr, raw.CreateTopic(e.topic, partitions)); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	}
	return produceEach(c, e.topic, partitions)
}

// launched starts the broker's program and answers the time until a record is acknowledged, in milliseconds.
func (e *env) launched(partitions int, make bool) (float64, error) {
	began := time.Now()
	if err := e.broker.launch(); err != nil {
		return 0, err
	}
	err := e.firstAck(partitions, make)
	return time.Since(began).Seconds() * 1e3, err
}

// emptyStart is from exec to the first acknowledged record on an empty directory. Apache Kafka's is formatted before.
func emptyStart() func(*env) (run, error) {
	return func(e *env) (run, error) {
		starts := 5
		if e.broker.jvm { // it takes seconds
			starts = 1
		}
		var all []float64
		var r run
		for range starts {
			k, err := e.bench.prepare(e.broker.target, wishes{})
			if err != nil {
				return run{}, err
			}
			defer k.stop()
			other := *e
			other.broker = k
			other.window(true)
			took, err := other.launched(1, true)
			if err != nil {
				return run{}, err
			}
			other.window(false)
			if r, err = other.filled(r); err != nil {
				return run{}, err
			}
			all = append(all, took)
			n, err := residentOf(k.pid())
			if err != nil {
				return run{}, err
			}
			r.also("MB resident", float64(n)/1e6)
			k.stop()
		}
		r.Value = middle(all)
		return r, nil
	}
}

// cleanStart is from exec to the first acknowledged record after a clean stop with many partitions, each with a record.
func cleanStart(partitions int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := e.filledTopic(partitions, true); err != nil {
			return run{}, err
		}
		if err := e.broker.halt(false); err != nil {
			return run{}, err
		}
		e.window(true)
		took, err := e.launched(1, false)
		if err != nil {
			return run{}, err
		}
		e.window(false)
		began := time.Now()
		if _, err := e.ends(partitions); err != nil {
			return run{}, err
		}
		r, err := e.filled(run{Value: took})
		r.also("us a partition", took*1e3/float64(partitions))
		r.also("ms until all partitions answer", took+time.Since(began).Seconds()*1e3)
		return r, err
	}
}

const gib = 1 << 30

// recovery is from exec after a kill under load until each of 10 partitions has acknowledged a record.
func recovery() func(*env) (run, error) {
	return func(e *env) (run, error) {
		const partitions = 10
		if err := e.create(partitions); err != nil {
			return run{}, err
		}
		want := e.backlog
		if want == 0 {
			want = gib
		}
		bytes, records, err := e.fill(partitions, 64<<10, want)
		if err != nil {
			return run{}, err
		}
		load := make(chan error, 1)
		go func() { // it ends with the broker
			_, err := raw.Produce{Load: raw.Load{Addr: e.broker.addr, Connections: 1, InFlight: 5, Measure: time.Minute}, Topic: e.topic, Partitions: partitions, Batch: 16 << 10, Record: 1000, Acks: -1}.Run(e.ctx)
			load <- err
		}()
		if err := e.wait(500 * time.Millisecond); err != nil {
			return run{}, err
		}
		if err := e.broker.halt(true); err != nil {
			return run{}, err
		}
		<-load
		points, err := recoveryPoints(e.broker.data, e.topic)
		if err != nil {
			return run{}, err
		}
		e.window(true)
		took, err := e.launched(partitions, false)
		if err != nil {
			return run{}, err
		}
		e.window(false)
		ends, err := e.ends(partitions)
		if err != nil {
			return run{}, err
		}
		var tail, all int64 // records
		for p, end := range ends {
			all += end
			tail += end - points[p]
		}
		each := float64(bytes) / float64(records)
		r, err := e.filled(run{Value: took})
		r.also("GB of log", float64(all)*each/1e9)
		r.also("GB above the recovery points", float64(tail)*each/1e9)
		r.also("s/GB above the recovery points", took/1e3/(float64(tail)*each/1e9))
		return r, err
	}
}

// fill produces some bytes in batches of some bytes to the run's topic.
func (e *env) fill(partitions, batch int, want int64) (bytes, records int64, err error) {
	if err := touch(min(want*3/2, available()/2)); err != nil {
		return 0, 0, err
	}
	for bytes < want {
		l := raw.Load{Addr: e.broker.addr, Connections: 1, InFlight: 4, Measure: 100 * time.Millisecond}
		res, err := (raw.Produce{Load: l, Topic: e.topic, Partitions: partitions, Batch: batch, Record: 1000, Acks: 1}).Run(e.ctx)
		if err != nil {
			return 0, 0, err
		}
		bytes, records = bytes+res.Bytes, records+res.Records
	}
	return bytes, records, nil
}

// recoveryPoints reads from which offsets on a start has to read a topic's logs: the file that Kafka and ours have.
func recoveryPoints(dir, topic string) (map[int32]int64, error) {
	var name string
	for _, try := range []string{dir, filepath.Join(dir, "data")} { // Kafka's is a folder deeper, see prepareKafka
		if file := filepath.Join(try, "recovery-point-offset-checkpoint"); name == "" && exists(file) {
			name = file
		}
	}
	if name == "" {
		return nil, nil // none was written yet: everything is to be read
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[int32]int64{}
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) != 3 || w[0] != topic {
			continue
		}
		p, err1 := strconv.ParseInt(w[1], 10, 32)
		offset, err2 := strconv.ParseInt(w[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[int32(p)] = offset
	}
	return all, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// tailGate: a start reads only what is above the recovery points, at a second a GB, beside what any start takes.
func tailGate() *gate {
	const tail = "GB above the recovery points"
	return about("at most 0.1 s and 1 s/GB above the recovery points", func(r *run) (string, bool) {
		return fmt.Sprintf("%s ms for %s GB", figure(r.Value), figure(r.Also[tail])), r.Value <= 100+1000*r.Also[tail]
	})
}
