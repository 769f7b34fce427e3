package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// command runs main's body to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

func TestWrongCommandLines(t *testing.T) {
	props := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(props, []byte("num.partitons=3\nlog.retention.hours=many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		says []string
	}{
		{[]string{"frobnicate"}, []string{`"frobnicate"`, "--help"}},
		{[]string{"--nosuch"}, []string{"nosuch"}},
		{[]string{"--set", "num.partitons=3"}, []string{"num.partitons", "num.partitions"}},
		{[]string{"--set", "num.partitions=three"}, []string{"num.partitions", "three"}},
		{[]string{"--config", props}, []string{"server.properties", "num.partitions", "log.retention.hours", "many"}},
		{[]string{"--config", filepath.Join(t.TempDir(), "absent")}, []string{"absent"}},
		{[]string{"--listen", "nonsense"}, []string{"nonsense"}},
	} {
		code, _, stderr := command(t, tc.args...)
		if code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", tc.args, code, exitUsage)
		}
		for _, s := range tc.says {
			if !strings.Contains(stderr, s) {
				t.Errorf("%v: the message does not name %q:\n%s", tc.args, s, stderr)
			}
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	if code, out, _ := command(t, "--help"); code != exitOK || !strings.Contains(out, "--listen HOST:PORT") {
		t.Errorf("--help: %d\n%s", code, out)
	}
	if code, out, _ := command(t, "version"); code != exitOK || out != "rotpeter "+version+"\n" {
		t.Errorf("version: %d %q", code, out)
	}
}

// lines hands on each line that is written to it.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

var readyLine = regexp.MustCompile(`^rotpeter ready kafka=(\S+) http=(\S+) data=(\S+)\n$`)

// serveInBackground runs the command until the returned function is called, which
// gives its exit code.
func serveInBackground(t *testing.T, args ...string) (kafka, http, data string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, code := make(lines, 1), make(chan int, 1)
	var errs bytes.Buffer
	go func() { code <- run(ctx, args, nil, out, &errs) }()
	stop = func() int {
		cancel()
		return <-code
	}
	select {
	case line := <-out:
		m := readyLine.FindStringSubmatch(line)
		if m == nil {
			stop()
			t.Fatalf("the ready line is %q", line)
		}
		return m[1], m[2], m[3], stop
	case c := <-code:
		t.Fatalf("exit code %d before it was ready:\n%s", c, errs.String())
	}
	return
}

// One real process's worth: free ports, one line when it serves, records in and
// out, the HTTP pages, a clean stop that leaves what was written.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	for round := range 2 {
		kafka, web, data, stop := serveInBackground(t, "--data", dir, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
		if data != dir {
			t.Errorf("data directory %s, want %s", data, dir)
		}
		cl, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("hello")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		for n := 0; n <= round; {
			f := cl.PollFetches(ctx)
			if err := f.Err(); err != nil {
				t.Fatal(err)
			}
			n += f.NumRecords()
		}
		cancel()
		cl.Close()
		for _, page := range []string{"/healthz", "/readyz", "/metrics"} {
			resp, err := http.Get("http://" + web + page)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s answers %s", page, resp.Status)
			}
		}
		if code := stop(); code != exitOK {
			t.Errorf("exit code %d after a stop", code)
		}
		if _, err := net.Dial("tcp", kafka); err == nil {
			t.Error("the port is still open after the stop")
		}
		if _, err := os.Stat(filepath.Join(dir, ".kafka_cleanshutdown")); err != nil {
			t.Errorf("a clean stop leaves its marker: %v", err)
		}
	}
}

func TestDevRemovesItsDirectory(t *testing.T) {
	_, web, data, stop := serveInBackground(t, "--dev", "--listen", "127.0.0.1:0", "--http", "")
	if web != "none" {
		t.Errorf("http=%s with the server turned off", web)
	}
	if _, err := os.Stat(data); err != nil {
		t.Errorf("the temporary directory: %v", err)
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
}

// Two brokers cannot share a directory; the second says who has it.
func TestDataDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	_, _, _, stop := serveInBackground(t, "--data", dir, "--listen", "127.0.0.1:0", "--http", "")
	defer stop()
	code, _, stderr := command(t, "--data", dir, "--listen", "127.0.0.1:0", "--http", "")
	if code != exitError || !strings.Contains(stderr, "lock") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

// The files of segments get a quarter of the descriptors, within limits.
func TestOpenFiles(t *testing.T) {
	for descriptors, want := range map[uint64]int{256: 1024, 1024: 1024, 20_000: 5000, 1 << 20: 16384, 1<<64 - 1: 16384} {
		if got := shareOf(descriptors); got != want {
			t.Errorf("of %d descriptors: %d files, want %d", descriptors, got, want)
		}
	}
	if n := openFiles(); n < 1024 {
		t.Errorf("%d files here", n)
	}
}
