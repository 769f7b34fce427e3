package main

import (
	"regexp"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The load generator prints what a broker answered, and leaves no topic behind.
func TestBench(t *testing.T) {
	kafka, _, _, stop := serveInBackground(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--http", "", "--dev")
	code, out, errs := command(t, "bench", "--bootstrap", kafka, "--seconds", "0.2", "--partitions", "3", "--connections", "2")
	if code != exitOK || !regexp.MustCompile(`(?m)^produce +[1-9]\d* +[1-9]\d* .*\nfetch +[1-9]\d* +[1-9]\d* `).MatchString(out) {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka))
	if err != nil {
		t.Fatal(err)
	}
	topics, err := kadm.NewClient(cl).ListTopics(t.Context())
	if err != nil || len(topics) != 0 {
		t.Errorf("left behind: %v, %v", topics.Names(), err)
	}
	cl.Close()
	if code := stop(); code != exitOK {
		t.Errorf("the broker's exit code is %d", code)
	}
}

func TestBenchCommandLine(t *testing.T) {
	for _, args := range [][]string{{"--acks", "0"}, {"--batch", "10"}, {"--partitions", "0"}, {"more"}, {"--batch", "99999999"}, {"--nosuch"}} {
		if code, _, errs := command(t, append([]string{"bench"}, args...)...); code != exitUsage || errs == "" {
			t.Errorf("%v: exit code %d, %q", args, code, errs)
		}
	}
	if code, _, errs := command(t, "bench", "--bootstrap", "127.0.0.1:1"); code != exitError || errs == "" {
		t.Errorf("no broker: exit code %d, %q", code, errs)
	}
}
