package vfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"time"
)

// Files lists the files below a directory by name, sorted within each directory.
func Files(fsys FS, dir string) (names []string, err error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if !e.IsDir() {
			names = append(names, name)
			continue
		}
		below, err := Files(fsys, name)
		if err != nil {
			return nil, err
		}
		names = append(names, below...)
	}
	return names, nil
}

// Damage does to a file of a file system in memory what a bad disk may do: one bit flips, the end is lost, a sector
// reads as zeros, or garbage follows the end. The time of its last change stays. It says what it did; "" if nothing, for an
// empty file or a sector of zeros.
func Damage(fsys FS, name string, rng *rand.Rand) (what string, err error) {
	info, err := fsys.Stat(name)
	if err != nil {
		return "", err
	}
	what, err = damage(fsys, name, rng)
	if t, ok := fsys.(interface{ setModTime(string, time.Time) error }); ok && err == nil {
		err = t.setModTime(name, info.ModTime())
	}
	return what, err
}

func damage(fsys FS, name string, rng *rand.Rand) (what string, err error) {
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return "", err
	}
	b := make([]byte, size)
	if size > 0 {
		if _, err := f.ReadAt(b, 0); err != nil {
			return "", err
		}
	}
	switch n := rng.IntN(10); {
	case n == 0:
		garbage := make([]byte, 1+rng.IntN(600))
		for i := range garbage {
			garbage[i] = byte(rng.Uint32())
		}
		_, err = f.WriteAt(garbage, size)
		return fmt.Sprintf("extend: %d bytes of garbage after %d", len(garbage), size), err
	case size == 0:
		return "", nil
	case n == 1:
		at := rng.Int64N(size)
		return fmt.Sprintf("truncate: to %d of %d", at, size), f.Truncate(at)
	case n == 2:
		from := rng.Int64N(size) / sectorBytes * sectorBytes
		sector := b[from:min(size, from+sectorBytes)]
		zero := true
		for _, c := range sector {
			zero = zero && c == 0
		}
		if zero {
			return "", nil
		}
		_, err = f.WriteAt(make([]byte, len(sector)), from)
		return fmt.Sprintf("zero: %d bytes from %d of %d", len(sector), from, size), err
	}
	at, bit := rng.Int64N(size), rng.IntN(8)
	_, err = f.WriteAt([]byte{b[at] ^ 1<<bit}, at)
	return fmt.Sprintf("flip: bit %d of byte %d of %d", bit, at, size), err
}

func (t *tree) setModTime(name string, at time.Time) error {
	t.mu.RLock()
	n, err := t.findLocked(name)
	t.mu.RUnlock()
	if err != nil {
		return failed("set the time of", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mtime = at
	return nil
}
