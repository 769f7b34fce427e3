package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// listing is every file below a directory with its content and times: what a reader must not change.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		b.WriteString(path + info.ModTime().String() + info.Mode().String() + string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A broker's directory is sound while it is in use and after it, and looking changes nothing.
func TestCheckAndDump(t *testing.T) {
	dir := t.TempDir()
	kafka, _, _, stop := serveInBackground(t, "--data", dir, "--listen", "127.0.0.1:0", "--http", "")
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.AllowAutoTopicCreation(), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: 0, Key: []byte("k"), Value: []byte("hello")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := command(t, "check", dir)
	if code != exitSound || !strings.Contains(out, "0 damage, 0 derived") {
		t.Errorf("in use: exit code %d\n%s%s", code, out, errs)
	}
	if runtime.GOOS == "linux" && !strings.Contains(out, "a broker has the directory open") {
		t.Errorf("in use, and nothing says so:\n%s", out)
	}
	cl.Close()
	if code := stop(); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	before := listing(t, dir)
	code, out, errs = command(t, "check", dir)
	if code != exitSound || !strings.Contains(out, "0 damage, 0 derived, 0 notices") {
		t.Errorf("stopped: exit code %d\n%s%s", code, out, errs)
	}
	code, out, errs = command(t, "check", "--json", dir)
	var last struct {
		Summary struct{ Partitions, Batches int64 }
	}
	if err := json.Unmarshal([]byte(out), &last); err != nil || code != exitSound || last.Summary.Partitions < 2 || last.Summary.Batches < 6 {
		t.Errorf("--json: exit code %d, %v\n%s%s", code, err, out, errs)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "t-*", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal("no segments", err)
	}
	code, out, errs = command(t, append([]string{"dump", "--records"}, logs...)...)
	if code != exitOK || strings.Count(out, `key: "k" payload: "hello"`) != 5 || errs != "" {
		t.Errorf("dump: exit code %d\n%s%s", code, out, errs)
	}
	if listing(t, dir) != before {
		t.Error("looking at the directory changed it")
	}

	var written string
	for _, name := range logs {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 {
			written = name
		}
	}
	if err := os.Truncate(written, 70); err != nil {
		t.Fatal(err)
	}
	if code, out, _ = command(t, "check", dir); code != exitProblems || !strings.Contains(out, "damage  "+written) {
		t.Errorf("truncated: exit code %d\n%s", code, out)
	}
	if code, out, errs = command(t, "dump", written); code != exitError || !strings.Contains(errs, "are not whole batches") {
		t.Errorf("dump of a truncated segment: exit code %d\n%s%s", code, out, errs)
	}
}

// full fails after some bytes, as a closed pipe does.
type full struct{ left int }

func (w *full) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, errors.New("the pipe is closed")
	}
	return len(b), nil
}

func TestInspectCommandLines(t *testing.T) {
	empty := t.TempDir()
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"check"}, exitUsage, "Usage"},
		{[]string{"check", "--nosuch"}, exitUsage, "nosuch"},
		{[]string{"check", filepath.Join(empty, "absent")}, exitBlind, "absent"},
		{[]string{"check", empty}, exitBlind, "neither a data directory"},
		{[]string{"dump"}, exitUsage, "Usage"},
		{[]string{"dump", "--as", "nonsense", "x.log"}, exitUsage, "nonsense"},
		{[]string{"dump", filepath.Join(empty, "x.log")}, exitError, "told apart by their names"},
		{[]string{"dump", filepath.Join(empty, "00000000000000000000.log")}, exitError, "no such file"},
	} {
		if code, _, errs := command(t, tc.args...); code != tc.code || !strings.Contains(errs, tc.says) {
			t.Errorf("%v: exit code %d\n%s", tc.args, code, errs)
		}
	}
	offsets := filepath.Join(empty, "recovery-point-offset-checkpoint")
	if err := os.WriteFile(offsets, []byte("0\n1\nt 0 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"dump", offsets}, {"check", empty}} {
		var errs strings.Builder
		if code := run(t.Context(), args, nil, &full{5}, &errs); code == exitOK || !strings.Contains(errs.String(), "the pipe is closed") {
			t.Errorf("%v into a closed pipe: exit code %d, %q", args, code, errs.String())
		}
	}
}
