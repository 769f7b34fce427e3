package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of the kernel's CPU times in /proc: 100 a second on Linux, whatever the kernel's own clock.
const tick = 10 * time.Millisecond

// cpuOf is the CPU time that a process has used with all its threads, also with those that are gone.
func cpuOf(pid int) (time.Duration, error) {
	// A clock of a process: its number's complement, and "as the scheduler counts" (CPUCLOCK_SCHED, see clock_getcpuclockid(3)).
	clock := int32(^pid<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
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

// descriptorsOf is how many descriptors a process has open.
func descriptorsOf(pid int) (int, error) {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(all), err
}

// readOf is how many bytes a process has had read from disks.
func readOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "read_bytes: "); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, errors.New("an io file without read_bytes")
}

// cool has the kernel forget what it holds of the files below a folder, as far as that is on disk: the next read comes from there.
// It needs no rights, and leaves other programs' files alone.
func cool(dir string, sync bool) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files come and go under a broker
		}
		f, err := os.Open(name)
		if err != nil {
			return nil
		}
		defer f.Close()
		if sync {
			if err := f.Sync(); err != nil {
				return err
			}
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
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
