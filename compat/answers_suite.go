package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rotpeter/rotpeter/compat/answers"
)

// answersChecks plays the scripts of raw requests in testdata/answers, each a
// check, against one broker; with -golden it writes down what Kafka answers. Its
// topics are gone at the end: there is nothing left for kafka-dump-log.
func (b *bench) answersChecks(ctx context.Context) error {
	scripts, err := answers.Scripts(filepath.Join(filepath.Dir(b.source), "testdata", "answers"))
	if err != nil {
		return err
	}
	settings := slices.Clone(answers.Settings)
	if b.target == "rotpeter" {
		// Kafka's answers are those of static voters: then kraft.version is not finalized.
		settings = append(settings, "controller.quorum.voters=1@127.0.0.1:9093")
	}
	t, err := b.newTarget("answers", settings...)
	if err != nil {
		return err
	}
	if err := t.Start(); err != nil {
		return err
	}
	defer func() {
		if t.cmd != nil {
			t.Kill()
		}
	}()
	player, err := answers.NewPlayer(t.bootstrap, b.target == "kafka")
	if err != nil {
		return err
	}
	play := player.Compare
	if b.golden {
		play = player.Record
	}
	for _, path := range scripts {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		if !b.wants("answers", "raw", name) || ctx.Err() != nil {
			continue
		}
		began := time.Now()
		n, err := play(path)
		b.report.note("answers", "raw", name, time.Since(began), fmt.Sprintf("%d answers", n), err)
		if !t.Alive() {
			return errors.New("the broker ended")
		}
	}
	began := time.Now()
	err = t.Stop()
	b.report.note("broker", "answers", "stops cleanly on SIGTERM", time.Since(began), "", err)
	return nil
}
