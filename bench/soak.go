package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metric reads one figure from the broker's /metrics.
func (b *broker) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.http+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, fmt.Errorf("/metrics has no %s", name)
}

// state is what must not grow while the same work goes on.
type state struct{ resident, goroutines, descriptors float64 }

func (b *broker) state(ctx context.Context) (state, error) {
	resident, err1 := residentOf(b.pid())
	goroutines, err2 := b.metric(ctx, "go_goroutines")
	descriptors, err3 := descriptorsOf(b.pid())
	return state{float64(resident), goroutines, float64(descriptors)}, errors.Join(err1, err2, err3)
}

// soak is a producer at a fixed rate to five consumers beside groups that come and go, for a long time. The headline is the
// resident memory at the end in relation to that after a fifth of the time.
func soak(perSecond float64) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := e.create(10); err != nil {
			return run{}, err
		}
		ctx, cancel := context.WithCancel(e.ctx)
		defer cancel()
		churn := make(chan error, 1)
		go func() { churn <- e.churn(ctx) }()
		sampled := make(chan error, 1)
		var early, late state
		go func() { // the work goes on at both times
			err1 := e.wait(e.soak / 5)
			var err2, err3, err4 error
			early, err2 = e.broker.state(ctx)
			err3 = e.wait(e.soak*3/4 - time.Second)
			late, err4 = e.broker.state(ctx)
			sampled <- errors.Join(err1, err2, err3, err4)
		}()
		long := *e
		long.seconds = e.soak - e.warm
		l := long.load(10, 1000, 0)
		l.Window = e.window
		r, err := e.ofLoad(l.Delivered(ctx, perSecond, 5))
		err = errors.Join(err, <-sampled)
		cancel()
		if err := errors.Join(err, <-churn); err != nil {
			return r, err
		}
		r.Value = late.resident / early.resident
		r.also("MB resident early", early.resident/1e6)
		r.also("goroutines more", late.goroutines-early.goroutines)
		r.also("descriptors more", late.descriptors-early.descriptors)
		return r, nil
	}
}

// churn has groups of ten members of both protocols come and go.
func (e *env) churn(ctx context.Context) error {
	side := *e
	side.ctx = ctx
	if _, err := side.shared("groups", groupPartitions); err != nil {
		return err
	}
	for i := 0; ctx.Err() == nil; i++ {
		g, err := side.group(10)
		if err == nil {
			if i%2 == 0 {
				_, err = g.Classic()
			} else {
				_, err = g.Consumer()
			}
			g.Close()
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	return nil
}

// flat: nothing grows.
func flat() *gate {
	return about("resident at most 1.2 times, goroutines and descriptors at most 50 more", func(r *run) (string, bool) {
		more := max(r.Also["goroutines more"], r.Also["descriptors more"])
		return fmt.Sprintf("%s times, %s more", figure(r.Value), figure(more)), r.Value <= 1.2 && more <= 50
	})
}
