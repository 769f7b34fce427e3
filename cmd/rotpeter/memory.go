package main

import (
	"io/fs"
	"log/slog"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/rotpeter/rotpeter/config"
)

// memory is how much the process may take, and how that is known.
type memory struct {
	max      int64  // what budgets follow from, bytes; 0: no limit
	goBytes  int64  // Go's soft limit to set; 0: it stays as it is
	from     string // where the limit comes from
	tooSmall bool   // it was found, not set, and is below what is needed: max is more than it
}

// goLimit is GOMEMLIMIT, which the runtime has read, in bytes; 0: none.
func goLimit() int64 {
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		return n
	}
	return 0
}

// memoryLimit is rotpeter.memory.max, else GOMEMLIMIT, else nine tenths of the cgroup's limit: a cgroup also counts what the
// kernel has for its sockets. One that was set and is too small is an error; one that was found is made do with.
func memoryLimit(c *config.Config, goMax int64, root fs.FS) (memory, error) {
	m := memory{max: c.Int("rotpeter.memory.max"), from: "rotpeter.memory.max"}
	set := m.max > 0
	if !set && goMax > 0 {
		m.max, m.from = goMax, "GOMEMLIMIT"
	}
	if m.max == 0 {
		m.max, m.from = cgroupLimit(root)/10*9, "the cgroup's limit"
	}
	if m.max == 0 {
		return memory{}, nil
	}
	parts, err := c.Memory(m.max)
	if err != nil && set {
		return memory{}, err
	}
	if err != nil {
		m.tooSmall, parts.GoBytes, m.max = true, m.max/8*7, c.LeastMemory()
	}
	if m.goBytes = parts.GoBytes; goMax > 0 {
		m.goBytes = min(goMax, m.goBytes)
	}
	if m.from == "GOMEMLIMIT" {
		m.goBytes = 0
	}
	return m, nil
}

// apply sets Go's limit and tells the log.
func (m *memory) apply(log *slog.Logger) {
	if m.max == 0 {
		return
	}
	if m.goBytes > 0 {
		debug.SetMemoryLimit(m.goBytes)
	}
	if m.tooSmall {
		log.Warn("there is less memory than the broker may need", "limit from", m.from, "needed", m.max)
		return
	}
	log.Info("memory is limited", "bytes", m.max, "limit from", m.from)
}

// cgroupLimit is the smallest limit of the process's cgroup and those above it, in bytes; 0: none. It knows versions 1 and 2.
func cgroupLimit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0 // not Linux
	}
	least := int64(0)
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		switch {
		case parts[0] == "0" && parts[1] == "":
		case strings.Contains(","+parts[1]+",", ",memory,"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Join("/", parts[2]); ; dir = path.Dir(dir) {
			text, err := fs.ReadFile(root, path.Join(mount, dir, file))
			// "max", and what cannot be read, are no limit; neither is version 1's largest number.
			if n, err2 := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && err2 == nil && n > 0 && n < 1<<60 {
				if least == 0 || n < least {
					least = n
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return least
}
