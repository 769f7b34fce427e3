package log

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// leftovers are the files of a compaction that a crash interrupted.
type leftovers struct{ cleaned, swap []string }

// add takes in the files that a compaction works with.
func (t *leftovers) add(name string) (ours bool) {
	switch filepath.Ext(name) {
	case cleanedSuffix:
		t.cleaned = append(t.cleaned, name)
	case swapSuffix:
		t.swap = append(t.swap, name)
	default:
		return false
	}
	return true
}

func (t *leftovers) none() bool { return len(t.cleaned)+len(t.swap) == 0 }

// settle ends an interrupted compaction in a partition's directory, either way, as
// Kafka's LogLoader does it. A segment is complete once its files are called .swap:
// then the segments that it stands for go, and it takes their place. While a
// .cleaned file is there, the swap had not begun for its offset and above.
//
// Each step may be cut short and is taken again by the next start.
func (t *leftovers) settle(s *Store, dir string, names []string) error {
	undone := int64(math.MaxInt64)
	for _, name := range t.cleaned {
		undone = min(undone, leadingOffset(name))
	}
	t.swap = slices.DeleteFunc(t.swap, func(name string) bool {
		if leadingOffset(name) < undone {
			return false
		}
		t.cleaned = append(t.cleaned, name)
		return true
	})
	for _, name := range t.cleaned {
		if err := s.fs.Remove(filepath.Join(dir, name)); err != nil && !missing(err) {
			return worldly("remove what a compaction left", err)
		}
	}
	if len(t.swap) == 0 {
		return nil
	}
	s.slog.Info("an interrupted compaction is completed", "log", filepath.Base(dir), "files", len(t.swap))
	from, to, err := t.covers(s, dir)
	if err != nil {
		return err
	}
	// The process before may have been killed before their names were durable.
	if err := s.syncDir(dir); err != nil {
		return err
	}
	for _, name := range names {
		if offset := leadingOffset(name); offset >= from && offset < to && !strings.HasSuffix(name, swapSuffix) {
			if err := s.fs.Remove(filepath.Join(dir, name)); err != nil && !missing(err) {
				return worldly("remove what was compacted", err)
			}
		}
	}
	// What was removed must not come back beside what stands for it.
	if err := s.syncDir(dir); err != nil {
		return err
	}
	for _, name := range t.swap {
		if err := s.fs.Rename(filepath.Join(dir, name), filepath.Join(dir, strings.TrimSuffix(name, swapSuffix))); err != nil {
			return worldly("put a compacted segment in its place", err)
		}
	}
	return s.syncDir(dir)
}

// covers is the range of offsets [from, to) that the swap files stand for.
func (t *leftovers) covers(s *Store, dir string) (from, to int64, err error) {
	from = math.MaxInt64
	for _, name := range t.swap {
		if !strings.HasSuffix(name, logSuffix+swapSuffix) {
			continue
		}
		base := leadingOffset(name)
		next, err := s.endOf(filepath.Join(dir, name), base)
		if err != nil {
			return 0, 0, err
		}
		from, to = min(from, base), max(to, next)
	}
	return from, to, nil
}

// endOf reads a segment's file and returns the offset after its last batch.
func (s *Store) endOf(path string, base int64) (end int64, err error) {
	f, err := s.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, worldly("open "+path, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, worldly("size of "+path, err)
	}
	scan := newScanner(&segment{base: base}, f, 0, size)
	for end = base; ; {
		h, pos, err := scan.next()
		if err == io.EOF {
			return end, nil
		}
		if err != nil {
			return 0, fmt.Errorf("%w: compacted segment %s is damaged at byte %d: %w", ErrStorage, path, pos, err)
		}
		end = h.LastOffset() + 1
	}
}

// leadingOffset is the offset that a file's name begins with, -1 if it does not.
func leadingOffset(name string) int64 {
	digits, _, ok := strings.Cut(name, ".")
	if !ok || len(digits) != 20 {
		return -1
	}
	offset, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return -1
	}
	return offset
}
