package protocol

import (
	"errors"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fileSender sends parts of files, and the bytes in front of them, on one TCP
// connection. Its callbacks are made once, so that sending allocates nothing. It
// is used by one goroutine at a time.
type fileSender struct {
	raw      syscall.RawConn
	tryBytes func(fd uintptr) bool
	tryFile  func(fd uintptr) bool

	bytes []byte
	file  int
	off   int64
	left  int
	err   error
}

// newFileSender returns nil if nc is not a plain TCP connection.
func newFileSender(nc net.Conn) *fileSender {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil // closed: the first read says so
	}
	f := &fileSender{raw: raw}
	f.tryBytes, f.tryFile = f.sendBytes, f.sendFileBytes
	return f
}

// sendMore sends b and lets the kernel keep the last packet open for what follows.
func (f *fileSender) sendMore(b []byte) error {
	f.bytes, f.err = b, nil
	err := f.raw.Write(f.tryBytes)
	f.bytes = nil
	return f.first(err)
}

// sendFile sends n bytes of a file at off and returns how many it sent, n without
// an error. It never moves the file's own position, which other senders share. The
// error is errors.ErrUnsupported if the file has to be read instead.
func (f *fileSender) sendFile(file int, off int64, n int) (int, error) {
	f.file, f.off, f.left, f.err = file, off, n, nil
	err := f.first(f.raw.Write(f.tryFile))
	return n - f.left, err
}

func (f *fileSender) first(err error) error {
	if f.err != nil {
		return f.err
	}
	return err
}

// sendBytes is called by the runtime whenever the socket may take bytes; false
// waits for the next time.
func (f *fileSender) sendBytes(fd uintptr) bool {
	for len(f.bytes) > 0 {
		n, _, errno := unix.Syscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&f.bytes[0])), uintptr(len(f.bytes)),
			unix.MSG_MORE|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			f.bytes = f.bytes[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			f.err = os.NewSyscallError("send", errno)
			return true
		}
	}
	return true
}

func (f *fileSender) sendFileBytes(fd uintptr) bool {
	for f.left > 0 {
		n, err := unix.Sendfile(int(fd), f.file, &f.off, f.left)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false
		case err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP:
			f.err = errors.ErrUnsupported
			return true
		case err != nil:
			f.err = os.NewSyscallError("sendfile", err)
			return true
		case n <= 0:
			f.err = errShortFile
			return true
		default:
			f.left -= n
		}
	}
	return true
}
