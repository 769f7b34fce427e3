package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of the kernel's CPU times: 100 a second on Linux, whatever the kernel's own clock.
const tick = 10 * time.Millisecond

// cpuOf is the CPU time that a process has used with all its threads.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The program's name may hold blanks and parentheses: fields are counted behind it.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, errors.New("a stat file with too few fields")
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// busy is the CPU time that all processes of the machine have used.
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	var total time.Duration
	for i, s := range f[min(1, len(f)):] {
		if i == 3 || i == 4 || i > 6 {
			continue
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// residentOf is the resident memory of a process in bytes.
func residentOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, errors.New("a statm file with too few fields")
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// reading is the CPU times at one moment.
type reading struct {
	at                    time.Time
	broker, client, total time.Duration
}

// read takes a reading; pid 0 is a broker elsewhere, of which nothing is known.
func read(pid int) (r reading, err error) {
	var err1, err2, err3 error
	if pid != 0 {
		r.broker, err1 = cpuOf(pid)
	}
	r.client, err2 = cpuOf(os.Getpid())
	r.total, err3 = busy()
	r.at = time.Now()
	return r, errors.Join(err1, err2, err3)
}

// foreign is how many cores others used between two readings.
func (r reading) foreign(later reading) float64 {
	others := (later.total - r.total) - (later.broker - r.broker) - (later.client - r.client)
	return max(0, others.Seconds()/later.at.Sub(r.at).Seconds())
}

// touch writes to so many bytes of memory and gives them back: the first touch of a page of a virtual machine costs its host
// more than anything that is measured.
func touch(n int64) error {
	const piece = 64 << 20
	var all [][]byte
	defer func() {
		for _, b := range all {
			_ = unix.Munmap(b) // of what was mapped here
		}
	}()
	for ; n > 0; n -= piece {
		b, err := unix.Mmap(-1, 0, piece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return fmt.Errorf("touch memory: %w", err)
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
	return nil
}

// available is the memory that the machine can give, in bytes.
func available() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			f := strings.Fields(rest)
			if len(f) == 0 {
				return 0
			}
			n, _ := strconv.ParseInt(f[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// firstWord is a file's first word, "unknown" if it cannot be read.
func firstWord(name string) string {
	b, err := os.ReadFile(name)
	if f := strings.Fields(string(b)); err == nil && len(f) > 0 {
		return f[0]
	}
	return "unknown"
}
