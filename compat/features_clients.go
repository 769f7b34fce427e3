package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// levelPause is about how long a level of transaction.version stays while clients work: some of their transactions
// are shorter, some longer.
const levelPause = 150 * time.Millisecond

// featureClients has all clients of the suite transactions consume, transform and produce while transaction.version goes up
// and down, each killed once in a transaction. What they wrote is read by another client and judged as there: every record
// once and in order. Kafka's own level 0 is left out: there the transactions of newer clients hang.
func (b *bench) featureClients(ctx context.Context) error {
	levels := []int16{2, 1, 0}
	if b.target == "kafka" {
		levels = levels[:2]
	}
	clients := b.txnClients()
	return b.bareBroker(ctx, "features-clients", transactionSettings(), func(t *target, ref *reference) error {
		b.leaveData(t)
		var runs []*txnRun
		for _, c := range clients {
			switch {
			case !b.wants("features", c.name, "transform"):
			case c.missing != "":
				b.report.add(result{suite: "features", client: c.name, check: "transform", outcome: notRun, reason: c.missing})
			default:
				name := "levels-" + strings.ReplaceAll(c.name, " ", "-")
				r := &txnRun{client: c, in: "in-" + name, out: "out-" + name, group: name}
				if err := r.fill(ctx, ref); err != nil {
					return err
				}
				runs = append(runs, r)
			}
		}
		ctx, cancel := context.WithTimeout(ctx, txnWithin)
		defer cancel()
		changes, err := changeLevels(ctx, b, ref, levels, func(ctx context.Context) {
			var wg sync.WaitGroup
			for _, r := range runs {
				wg.Go(func() {
					began := time.Now()
					r.err = r.transform(ctx, b, ref)
					r.took = time.Since(began)
				})
			}
			wg.Wait()
		})
		if err != nil {
			return err
		}
		for _, r := range runs {
			measure := fmt.Sprintf("%d committed, %d aborted, %d starts, %d levels", r.tally.commits.Load(), r.tally.aborts.Load(), r.starts.Load(), changes)
			if r.err == nil {
				_, r.err = r.read(ctx, b, ref, clients[readerOf(clients, r.client)])
			}
			b.report.note("features", r.client.name, "transform", r.took, measure, r.err)
		}
		return nil
	})
}

// readerOf is the client that reads what a client wrote.
func readerOf(clients []txnClient, c txnClient) int {
	for i := range clients {
		if clients[i].name == c.reader && clients[i].missing == "" {
			return i
		}
	}
	return 0
}

// changeLevels changes transaction.version again and again while f runs, and counts how often.
func changeLevels(ctx context.Context, b *bench, ref *reference, levels []int16, f func(context.Context)) (changes int, err error) {
	done := make(chan struct{})
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(done)
		f(working)
	}()
	r := rand.New(rand.NewPCG(b.seed, 0))
	for {
		select {
		case <-done:
			return changes, err
		case <-time.After(levelPause/2 + time.Duration(r.Int64N(int64(levelPause)))):
		}
		if err != nil {
			continue
		}
		if err = setLevel(ctx, ref, "transaction.version", levels[r.IntN(len(levels))]); err != nil {
			cancel() // and wait for the clients to end
		}
		changes++
	}
}

// setLevel changes the level of a feature, up or down.
func setLevel(ctx context.Context, ref *reference, feature string, level int16) error {
	now, err := finalized(ctx, ref, feature)
	if err != nil {
		return err
	}
	req, u := kmsg.NewPtrUpdateFeaturesRequest(), kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	if u.Feature, u.MaxVersionLevel, u.UpgradeType = feature, level, 1; level < now {
		u.UpgradeType = 2
	}
	req.FeatureUpdates = append(req.FeatureUpdates, u)
	resp, err := req.RequestWith(ctx, ref.cl)
	if err == nil && resp.ErrorCode == kerr.InvalidUpdateVersion.Code && ctx.Err() == nil {
		return setLevel(ctx, ref, feature, level) // Kafka's brokers tell a level that is not the controller's yet
	}
	if err == nil && resp.ErrorCode != 0 {
		err = errors.Join(kerr.ErrorForCode(resp.ErrorCode), fmt.Errorf("%s=%d: %s", feature, level, *resp.ErrorMessage))
	}
	return err
}
