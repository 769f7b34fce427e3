package main

import (
	"fmt"
	"time"

	"github.com/rotpeter/rotpeter/bench/raw"
)

const groupPartitions = 100

// classicJoin is a rebalance of a classic group: all members join again with another subscription, side by side, and get their part.
func classicJoin(members int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if _, err := e.shared("groups", groupPartitions); err != nil {
			return run{}, err
		}
		g, err := e.group(members)
		if err != nil {
			return run{}, err
		}
		defer g.Close()
		if _, err := g.Classic(); err != nil { // the first time, with its delay
			return run{}, err
		}
		return e.joins(members, g.Classic)
	}
}

// consumerJoin is all members that join an empty group by the newer protocol at once.
func consumerJoin(members int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if _, err := e.shared("groups", groupPartitions); err != nil {
			return run{}, err
		}
		return e.joins(members, func() (time.Duration, error) {
			g, err := e.group(members)
			if err != nil {
				return 0, err
			}
			defer g.Close()
			return g.Consumer()
		})
	}
}

func (e *env) group(members int) (*raw.Group, error) {
	e.groups++
	g := &raw.Group{Addr: e.broker.addr, Name: fmt.Sprintf("g%d-%d-%s", e.run, e.groups, e.topic), Topic: e.topic, Partitions: groupPartitions}
	if err := g.Connect(e.ctx, members); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// joins repeats a join for the measured time. The headline is the median.
func (e *env) joins(members int, join func() (time.Duration, error)) (run, error) {
	for begin := time.Now(); time.Since(begin) < e.warm; {
		if _, err := join(); err != nil {
			return run{}, err
		}
	}
	var all []float64
	e.window(true)
	for begin := time.Now(); len(all) == 0 || time.Since(begin) < e.seconds; {
		took, err := join()
		if err != nil {
			return run{}, err
		}
		all = append(all, took.Seconds()*1e3)
	}
	e.window(false)
	r, err := e.filled(run{Value: middle(all), Records: int64(len(all) * members)})
	r.also("us of CPU a member", r.BrokerCPU*1e6/float64(r.Records))
	return r, err
}
