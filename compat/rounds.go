package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runRounds runs the suites, and again until the time of -for is over, each round in a folder of its own. Then it looks for
// reports of the race detector in what the brokers said.
func (b *bench) runRounds(ctx context.Context) error {
	began, work := time.Now(), b.work
	defer func() { b.work = work }()
	for round := 1; ; round++ {
		if b.rounds > 0 {
			b.work = filepath.Join(work, fmt.Sprint("round-", round))
			if err := os.MkdirAll(b.work, 0o755); err != nil {
				return err
			}
			b.dirs = nil
		}
		if err := b.runSuites(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		if b.rounds > 0 {
			fmt.Fprintf(os.Stderr, "round %d ended after %.0fs\n", round, time.Since(began).Seconds())
		}
		if time.Since(began) >= b.rounds {
			break
		}
		if err := os.RemoveAll(b.work); err != nil {
			return err
		}
	}
	log, err := os.Open(filepath.Join(work, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	found, err := findRaces(log)
	if err != nil {
		return err
	}
	if found == "" && !b.race {
		return nil
	}
	if found != "" {
		err = errors.New(found)
	}
	b.report.note("broker", b.target, "no data race was reported", time.Since(began), "", err)
	return nil
}

// raceReport begins and ends what Go's race detector prints.
const (
	raceReport    = "WARNING: DATA RACE"
	raceReportEnd = "=================="
)

// findRaces counts the race detector's reports in a log, and gives the first.
func findRaces(log io.Reader) (string, error) {
	var first strings.Builder
	count, within := 0, false
	in := bufio.NewReader(log)
	for {
		line, err := in.ReadString('\n')
		switch {
		case strings.HasPrefix(line, raceReport):
			count++
			within = count == 1
		case strings.HasPrefix(line, raceReportEnd):
			within = false
		}
		if within {
			first.WriteString(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	if count == 0 {
		return "", nil
	}
	return fmt.Sprintf("%d reports, the first: %s", count, first.String()), nil
}
