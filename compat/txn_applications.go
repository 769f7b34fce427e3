package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// applicationKills is how often the broker is killed under applications.
	applicationKills = 2
	// applicationsWithin bounds them, and applicationsFull with the whole corpus.
	applicationsWithin = 3 * time.Minute
	applicationsFull   = time.Hour
)

// txnApplications runs Kafka Streams and Kafka Connect, all at once, with a broker that is killed under them.
func (b *bench) txnApplications(ctx context.Context) error {
	connects := slices.DeleteFunc(connectRuns(), func(r *connectRun) bool { return !b.wants("transactions", "kafka-connect", r.name) })
	var words *wordsRun
	if b.wants("transactions", "kafka-streams", "counts words") {
		var err error
		if words, err = b.newWordsRun(ctx); err != nil {
			return err
		}
	}
	if len(connects) == 0 && words == nil {
		return nil
	}
	within := applicationsWithin
	if b.full {
		within = applicationsFull
	}
	settings := append(transactionSettings(), "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000")
	return b.bareBroker(ctx, "applications", settings, func(t *target, ref *reference) error {
		b.leaveData(t)
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		var (
			wg  sync.WaitGroup
			err error
		)
		if len(connects) > 0 {
			wg.Go(func() { err = b.txnConnect(ctx, ref, connects) })
		}
		if words != nil {
			wg.Go(func() { b.txnWords(ctx, ref, words) })
		}
		killing, stop := context.WithCancel(ctx)
		var killer sync.WaitGroup
		killer.Go(func() { b.killUnderApplications(killing, t, connects, words) })
		wg.Wait()
		stop()
		killer.Wait()
		return err
	})
}

// killUnderApplications kills and starts the broker when a third and when two thirds of the work is done.
func (b *bench) killUnderApplications(ctx context.Context, t *target, connects []*connectRun, words *wordsRun) {
	began := time.Now()
	done := func() (parts float64) {
		all := len(connects)
		for _, r := range connects {
			parts += float64(r.progress.Load()) / connectCount
		}
		if words != nil {
			parts += float64(words.progress.Load()) / float64(words.all)
			all++
		}
		return parts / float64(all)
	}
	err := killAt(ctx, t, done)
	b.report.note("transactions", t.name, "twice SIGKILL and restart under applications", time.Since(began), "", err)
}

func killAt(ctx context.Context, t *target, done func() float64) error {
	for k := range applicationKills {
		for done() < float64(k+1)/(applicationKills+1) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%.2f of the work is done: %w", done(), ctx.Err())
			case <-time.After(5 * time.Millisecond):
			}
		}
		if err := errors.Join(t.Kill(), t.Start()); err != nil {
			return err
		}
	}
	return nil
}
