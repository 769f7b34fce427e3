package main

import (
	"strings"
	"testing"
)

func TestFindRaces(t *testing.T) {
	const sound = "time=... level=INFO msg=\"all partitions are open\"\n"
	const race = "==================\nWARNING: DATA RACE\nWrite at 0x1 by goroutine 1:\n  log.f()\n==================\n"
	for log, want := range map[string]string{
		"":                           "",
		sound:                        "",
		sound + race + sound + race:  "2 reports, the first: WARNING: DATA RACE\nWrite at 0x1 by goroutine 1:\n  log.f()\n",
		sound + "WARNING: DATA RACE": "1 reports, the first: WARNING: DATA RACE",
	} {
		if got, err := findRaces(strings.NewReader(log)); got != want || err != nil {
			t.Errorf("%q: %q, %v", log, got, err)
		}
	}
}
