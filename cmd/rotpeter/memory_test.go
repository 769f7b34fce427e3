package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rotpeter/rotpeter/config"
)

func TestWhereTheMemoryLimitComesFrom(t *testing.T) {
	const mib = 1 << 20
	cgroup2 := func(limit string) fstest.MapFS {
		return fstest.MapFS{
			"proc/self/cgroup":                    {Data: []byte("0::/app/broker\n")},
			"sys/fs/cgroup/app/broker/memory.max": {Data: []byte("max\n")},
			"sys/fs/cgroup/app/memory.max":        {Data: []byte(limit + "\n")},
		}
	}
	cgroup1 := fstest.MapFS{
		"proc/self/cgroup": {Data: []byte("5:cpu:/x\n4:memory:/x\n")},
		"sys/fs/cgroup/memory/x/memory.limit_in_bytes":         {Data: []byte("1073741824\n")},
		"sys/fs/cgroup/memory/memory.limit_in_bytes":           {Data: []byte("9223372036854771712\n")},
		"sys/fs/cgroup/memory/elsewhere/memory.limit_in_bytes": {Data: []byte("1\n")},
	}
	for _, k := range []struct {
		name, setting string
		goMax         int64
		root          fstest.MapFS
		want          memory // max and goBytes in MiB
	}{
		{"nothing", "0", 0, fstest.MapFS{}, memory{}},
		{"no limit of the cgroup", "0", 0, cgroup2("max"), memory{}},
		{"the setting", "134217728", 0, cgroup2("1073741824"), memory{max: 128, goBytes: 112, from: "rotpeter.memory.max"}},
		{"the setting, and a smaller GOMEMLIMIT", "134217728", 100 * mib, nil, memory{max: 128, goBytes: 100, from: "rotpeter.memory.max"}},
		{"GOMEMLIMIT", "0", 256 * mib, cgroup2("1073741824"), memory{max: 256, from: "GOMEMLIMIT"}},
		{"a cgroup above", "0", 0, cgroup2("1073741824"), memory{max: 921, goBytes: 880, from: "the cgroup's limit"}},
		{"version 1", "0", 0, cgroup1, memory{max: 921, goBytes: 880, from: "the cgroup's limit"}},
		{"a cgroup that is too small", "0", 0, cgroup2("67108864"), memory{max: 83, goBytes: 50, from: "the cgroup's limit", tooSmall: true}},
	} {
		s, err := config.ParseOverrides("--set", []string{"rotpeter.memory.max=" + k.setting})
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := memoryLimit(c, k.goMax, k.root)
		got.max, got.goBytes = got.max/mib, got.goBytes/mib
		if err != nil || got != k.want {
			t.Errorf("%s: %+v, %v; want %+v", k.name, got, err, k.want)
		}
	}
}

func TestAMemoryLimitThatIsTooSmallStopsTheStart(t *testing.T) {
	code, _, errs := command(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--http", "", "--set", "rotpeter.memory.max=50000000")
	if code != exitError || !strings.Contains(errs, "the smallest limit with these settings is 87031808 (83 MiB)") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
