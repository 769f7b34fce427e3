package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Limits of a run.
const (
	quietCores   = 0.3 // what else may be busy beside a run, in cores
	quietRetries = 2   // how often a run beside which more was busy is repeated
)

// run is one measured run of a scenario on a broker.
type run struct {
	Seconds  float64 `json:"seconds"`
	Requests int64   `json:"requests,omitempty"`
	Records  int64   `json:"records,omitempty"`
	Bytes    int64   `json:"bytes,omitempty"`

	BrokerCPU float64 `json:"broker_cpu_seconds"`
	ClientCPU float64 `json:"client_cpu_seconds"`
	Foreign   float64 `json:"foreign_cores"`
	Resident  float64 `json:"broker_resident_mb"` // 10^6 bytes, after the run

	P50  float64 `json:"p50_us,omitempty"`
	P99  float64 `json:"p99_us,omitempty"`
	P999 float64 `json:"p999_us,omitempty"`
	Max  float64 `json:"max_us,omitempty"`

	Value float64            `json:"value,omitempty"` // of scenarios with a measure of their own
	Also  map[string]float64 `json:"also,omitempty"`  // further figures, by what they are
}

// also keeps a further figure. Its name stands behind the number.
func (r *run) also(what string, v float64) {
	if r.Also == nil {
		r.Also = map[string]float64{}
	}
	r.Also[what] = v
}

// bench is the state of one call.
type bench struct {
	tools       *tools
	targets     []*target
	repetitions int
	seconds     time.Duration // of the measured part of a run
	warm        time.Duration
	say         func(format string, args ...any)
	out         string // folder of the report
	noisy       bool   // do not repeat runs for a busy machine
	backlog     int64  // bytes
	soak        time.Duration
	topics      int
	growing     string // id of an assertion of growth
	which       string // side of an assertion of growth, in names of profiles
}

// outcome is all runs of one scenario, by target.
type outcome struct {
	scenario *scenario
	runs     map[string][]run
	failed   map[string]string // why a target has no runs
}

// measure runs a scenario: each target in turn, again and again.
func (b *bench) measure(ctx context.Context, s *scenario) (*outcome, error) {
	o := &outcome{s, map[string][]run{}, map[string]string{}}
	var brokers []*broker
	defer func() {
		for _, k := range brokers {
			k.stop()
		}
	}()
	for _, t := range b.targets {
		if s.skip != nil && s.skip(t.name) {
			continue
		}
		if s.fresh {
			brokers = append(brokers, &broker{target: t})
			continue
		}
		k, err := b.start(t, s.wishes())
		if err != nil {
			o.failed[t.name] = err.Error()
			b.say("  %-9s cannot be started: %v", t.name, err)
			continue
		}
		brokers = append(brokers, k)
		if t.jvm { // its compiler has not seen the paths yet
			if _, err := b.once(ctx, s, k, 0); err != nil {
				o.failed[t.name] = err.Error()
				b.say("  %-9s failed while it was warmed up: %v", t.name, err)
			}
		}
	}
	for i := range b.repetitions {
		for j := range brokers {
			k := brokers[(i+j)%len(brokers)]
			if o.failed[k.name] != "" {
				continue
			}
			r, err := b.quiet(ctx, s, k)
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err != nil {
				o.failed[k.name] = err.Error()
				b.say("  %-9s failed: %v", k.name, err)
				continue
			}
			o.runs[k.name] = append(o.runs[k.name], r)
			b.say("  %-9s %s", k.name, s.line(&r))
		}
	}
	return o, nil
}

// prepare makes a data directory for a broker.
func (b *bench) prepare(t *target, w wishes) (*broker, error) {
	dir, err := os.MkdirTemp(b.tools.scratch, t.name)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	k, err := t.prepare(b.tools, data, w)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	k.target, k.dir = t, dir
	return k, nil
}

// start starts a broker on a data directory of its own.
func (b *bench) start(t *target, w wishes) (*broker, error) {
	k, err := b.prepare(t, w)
	if err != nil {
		return nil, err
	}
	if err := k.start(); err != nil {
		k.stop()
		return nil, err
	}
	return k, nil
}

// quiet repeats a run beside which the machine was busy with something else.
func (b *bench) quiet(ctx context.Context, s *scenario, k *broker) (r run, err error) {
	for range quietRetries + 1 {
		if r, err = b.once(ctx, s, k, b.warm); err != nil || r.Foreign <= quietCores || b.noisy {
			return r, err
		}
	}
	return r, nil // it tells how busy the machine was
}

// once runs a scenario in a topic of its own.
func (b *bench) once(ctx context.Context, s *scenario, k *broker, warm time.Duration) (run, error) {
	if s.fresh {
		var err error
		if k, err = b.start(k.target, s.wishes()); err != nil {
			return run{}, err
		}
		defer k.stop()
	}
	b.topics++
	e := &env{
		ctx: ctx, broker: k, topic: fmt.Sprintf("bench-%d", b.topics), warm: warm, seconds: b.seconds,
		bench: b, backlog: b.backlog, soak: b.soak, run: b.topics,
	}
	if b.tools.profile {
		e.profile = filepath.Join(b.out, s.id)
	}
	defer e.clean()
	if s.bytes > 0 {
		if err := touch(min(s.bytes*3/2, available()/2)); err != nil {
			return run{}, err
		}
	}
	r, err := s.run(e)
	if e.profiled != nil {
		err = errors.Join(err, <-e.profiled)
	}
	if err != nil {
		return run{}, err
	}
	if k.cmd != nil {
		resident, err := residentOf(k.pid())
		if err != nil {
			return run{}, fmt.Errorf("%s is gone: %w", k.name, err)
		}
		r.Resident = float64(resident) / 1e6
	}
	return r, nil
}

// env is what one run of a scenario works with.
type env struct {
	ctx     context.Context
	broker  *broker
	topic   string
	made    bool
	warm    time.Duration
	seconds time.Duration

	bench   *bench
	run     int   // its number
	groups  int   // made in this run
	backlog int64 // bytes of log, of scenarios that need one
	soak    time.Duration

	profile  string // file for a profile of the measured time, without its ending
	profiled chan error

	from, to reading
	err      error
}

// window takes the readings at both ends of the measured time.
func (e *env) window(begin bool) {
	r, err := read(e.broker.pid())
	if err != nil && e.err == nil {
		e.err = err
	}
	if begin {
		e.from = r
		if e.profile != "" && e.broker.http != "" {
			done, file := make(chan error, 1), e.profile+e.bench.which+".pprof"
			e.profiled = done
			go func() { done <- fetchProfile(e.ctx, e.broker.http, e.seconds, file) }()
		}
	} else {
		e.to = r
	}
}

// fetchProfile keeps a CPU profile of a broker's next seconds.
func fetchProfile(ctx context.Context, addr string, seconds time.Duration, file string) error {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", addr, max(1, int(seconds.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", resp.Status)
	}
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, b, 0o644))
}

// filled is a run with what the readings say.
func (e *env) filled(r run) (run, error) {
	if e.profiled != nil {
		e.err = errors.Join(e.err, <-e.profiled)
		e.profiled = nil
	}
	if e.err != nil {
		return r, e.err
	}
	if e.to.at.IsZero() {
		return r, fmt.Errorf("the measured time did not end")
	}
	r.Seconds = e.to.at.Sub(e.from.at).Seconds()
	r.BrokerCPU = (e.to.broker - e.from.broker).Seconds()
	r.ClientCPU = (e.to.client - e.from.client).Seconds()
	r.Foreign = e.from.foreign(e.to)
	return r, nil
}
