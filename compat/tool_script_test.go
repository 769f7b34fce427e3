package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The scripts of tools are read and written back as they are.
func TestToolScripts(t *testing.T) {
	var files []string
	for _, dir := range []string{groupScripts, txnScripts} {
		in, err := filepath.Glob(filepath.Join("..", dir, "*.txt"))
		if err != nil || len(in) == 0 {
			t.Fatal(dir, err)
		}
		files = append(files, in...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		runs, err := parseToolScript(string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if formatToolScript(runs) != string(text) {
			t.Errorf("%s is not written as formatToolScript writes it", file)
		}
		for _, r := range runs {
			if toolClasses()[r.args[0]] == "" {
				t.Errorf("%s: no tool %q", file, r.args[0])
			}
		}
	}
}

// What a tool prints is the same each time when it is steady.
func TestSteadyToolOutput(t *testing.T) {
	p := &toolPlayer{bootstrap: "127.0.0.1:4321", dir: "/somewhere/groups"}
	got, err := p.steady(toolAnswer{
		Out:  "\nGROUP   CONSUMER-ID\nz  one-0123abcd-0123-abcd-0123-0123456789ab   127.0.0.1:4321\na  crdTYuX3d2R0QeN1dEhQPw== /somewhere/groups/x\n",
		Err:  "first\njava.lang.Exception: why\n\tat some.Where(It.java:1)\nusage\n",
		Code: 1,
	}, scriptRun{})
	want := "GROUP CONSUMER-ID\na ID $dir/x\nz one-ID 127.0.0.1:PORT\nstderr: first\nstderr: java.lang.Exception: why\nexit code 1"
	if err != nil || got != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
}

// Times go out of a table with tabs, other columns and text stay.
func TestSteadyTimes(t *testing.T) {
	p := &toolPlayer{bootstrap: "127.0.0.1:4321", dir: "/somewhere"}
	for _, k := range []struct {
		out     string
		inOrder bool
		want    string
	}{
		{"A\tLatestCoordinatorEpoch\tLastTimestamp\tTransactionTimeoutMs\nb \t2\t1700000000000\t60000\na \t1\t-1 \t60000\n", false,
			"A LatestCoordinatorEpoch LastTimestamp TransactionTimeoutMs\na 1 -1 60000\nb 2 <LastTimestamp> 60000"},
		{"z z\na Time\n", true, "z z\na Time"},
	} {
		if got, err := p.steady(toolAnswer{Out: k.out}, scriptRun{inOrder: k.inOrder}); err != nil || got != k.want {
			t.Errorf("got %q, %v\nwant %q", got, err, k.want)
		}
	}
}
