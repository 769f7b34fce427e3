package protocol

import (
	"errors"
	"fmt"
	"time"
)

// pieceBytes is how much is sent under one deadline, so that a slow but steady
// peer is told from one that takes nothing.
const pieceBytes = 1 << 20

// errShortFile is a file that ended inside a run: the frame that was begun cannot
// be finished.
var errShortFile = errors.New("file ends inside a run of records")

// send writes everything in o. Runs of files go through sendfile(2) where the
// connection and the file have descriptors.
func (c *conn) send(o *output) error {
	from := 0
	for i := range o.cuts {
		cut := &o.cuts[i]
		if err := c.sendBytes(o.buf[from:cut.at], true); err != nil {
			return err
		}
		if err := c.sendRun(&cut.run); err != nil {
			return err
		}
		from = cut.at
	}
	return c.sendBytes(o.buf[from:], false)
}

// sendBytes writes b; more says that a run follows at once, which lets the kernel
// put both into one packet.
func (c *conn) sendBytes(b []byte, more bool) error {
	for len(b) > 0 {
		piece := b[:min(len(b), pieceBytes)]
		b = b[len(piece):]
		if err := c.setWriteDeadline(len(piece)); err != nil {
			return err
		}
		if more && c.files != nil {
			if err := c.files.sendMore(piece); err != nil {
				return err
			}
			continue
		}
		if _, err := c.nc.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) sendRun(r *Run) error {
	switch {
	case r.File == nil:
		return c.sendBytes(r.Data, true)
	case c.files == nil || r.Len < sendfileBytes:
		return c.copyRun(r)
	}
	fd := r.File.Fd()
	if fd == 0 {
		return c.copyRun(r)
	}
	for off, left := r.Off, r.Len; left > 0; {
		n := min(left, pieceBytes)
		if err := c.setWriteDeadline(n); err != nil {
			return err
		}
		sent, err := c.files.sendFile(int(fd), off, n)
		off, left = off+int64(sent), left-sent
		switch {
		case errors.Is(err, errors.ErrUnsupported): // by this file's file system
			return c.copyRun(&Run{File: r.File, Off: off, Len: left})
		case err != nil:
			return fmt.Errorf("send %d bytes at %d: %w", left, off, err)
		}
	}
	return nil
}

// copyRun sends a file's run through a pooled buffer.
func (c *conn) copyRun(r *Run) error {
	b := c.s.buffers.get(min(r.Len, largestChunk), 0)
	defer b.release()
	for off, left := r.Off, r.Len; left > 0; {
		piece := b.b[:min(left, len(b.b))]
		n, err := r.File.ReadAt(piece, off)
		if n < len(piece) {
			return fmt.Errorf("read %d bytes at %d to send them: %w", len(piece), off, errors.Join(errShortFile, err))
		}
		if err := c.sendBytes(piece, true); err != nil {
			return err
		}
		off += int64(n)
		left -= n
	}
	return nil
}

func (c *conn) setWriteDeadline(n int) error {
	return c.nc.SetWriteDeadline(time.Now().Add(c.s.limits.transferTime(n)))
}
