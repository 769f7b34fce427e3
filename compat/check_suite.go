package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// inspectChecks has `rotpeter check` look at the data directories that stopped brokers left
// behind, ours or Kafka's: it must find nothing.
func (b *bench) inspectChecks(ctx context.Context) error {
	if len(b.dirs) == 0 {
		return errors.New("no suite before this one left a data directory")
	}
	for _, dir := range b.dirs {
		suite := filepath.Base(filepath.Dir(dir))
		if !b.wants("check", suite, "rotpeter check") {
			continue
		}
		began := time.Now()
		measure, err := b.inspect(ctx, dir)
		b.report.note("check", suite, "rotpeter check", time.Since(began), measure, err)
	}
	return nil
}

// inspect runs the binary over a directory. What was deleted just before the stop may still be
// there on its way out; nothing else may be said. The measure is the last line but one.
func (b *bench) inspect(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, b.bin, "check", dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("rotpeter check %s: %w: %s", dir, err, firstWords(out.Bytes()))
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	measure := ""
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "checked "):
			measure = line
		case strings.HasPrefix(line, "sound: "), strings.Contains(line, " being deleted"):
		default:
			return "", fmt.Errorf("rotpeter check %s says: %s", dir, line)
		}
	}
	return measure, nil
}
