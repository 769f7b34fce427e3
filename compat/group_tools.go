package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// groupScripts is the folder of the scripts.
const groupScripts = "testdata/groups"

// groupToolChecks plays the scripts of groupScripts. A script's name is
// the prefix of the groups and topics in it, which toolFixtures makes.
func (b *bench) groupToolChecks(ctx context.Context, ref *reference) error {
	scripts, err := filepath.Glob(groupScripts + "/*.txt")
	if err != nil || len(scripts) == 0 {
		return errors.Join(err, errors.New("no scripts in "+groupScripts))
	}
	player, err := b.newToolPlayer(b.classes, ref.bootstrap, groupScripts)
	if err != nil {
		return err
	}
	defer player.Close()
	var wg sync.WaitGroup
	for _, file := range scripts {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if !b.wants("groups", "tools", name) {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 2*checkWithin)
			defer cancel()
			began := time.Now()
			fixture, err := makeToolFixture(ctx, ref, name)
			if err == nil {
				_, err = player.play(ctx, name, b.golden && b.target == "kafka")
			}
			fixture.close()
			b.report.note("groups", "tools", name, time.Since(began), "", err)
		})
	}
	wg.Wait()
	return nil
}
