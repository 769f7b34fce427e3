package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// windowBytes is what is read of a file at once.
const windowBytes = 1 << 20

// window shows a file piece by piece.
type window struct {
	f    io.ReaderAt
	size int64
	buf  []byte
	off  int64 // position of buf[0]
	n    int
}

// reset turns the window to another file, whose size is taken as it is now.
func (w *window) reset(f io.ReaderAt, size int64) {
	*w = window{f: f, size: size, buf: w.buf}
	if need := min(windowBytes, size); int64(len(w.buf)) < need {
		w.buf = make([]byte, max(need, 4<<10))
	}
}

// at gives n bytes at a position, which are valid until the next call; n is at most
// windowBytes. Error: io.ErrUnexpectedEOF past the end, or the disk's.
func (w *window) at(pos int64, n int) ([]byte, error) {
	if pos < w.off || pos+int64(n) > w.off+int64(w.n) {
		if pos < 0 || pos+int64(n) > w.size {
			return nil, io.ErrUnexpectedEOF
		}
		want := min(int64(len(w.buf)), w.size-pos)
		got, err := w.f.ReadAt(w.buf[:want], pos)
		w.off, w.n = pos, got
		if got < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return w.buf[pos-w.off:][:n], nil
}

// zeroFrom tells that only zeros follow.
func (w *window) zeroFrom(pos int64) (bool, error) {
	for pos < w.size {
		n := int(min(windowBytes, w.size-pos))
		b, err := w.at(pos, n)
		if err != nil {
			return false, err
		}
		for _, c := range b {
			if c != 0 {
				return false, nil
			}
		}
		pos += int64(n)
	}
	return true, nil
}

// open opens a file for reading and tells its size.
func open(fsys vfs.FS, name string) (vfs.File, int64, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// maxSmallBytes bounds what is read whole: a checkpoint with a line for each of 100,000
// partitions with names of 60 bytes.
const maxSmallBytes = 8 << 20

// readSmall reads a small file whole.
func readSmall(fsys vfs.FS, name string) (b []byte, err error) {
	f, size, err := open(fsys, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if size > maxSmallBytes {
		return nil, fmt.Errorf("it has %d bytes, at most %d are looked at", size, maxSmallBytes)
	}
	b = make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
