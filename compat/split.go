package main

import (
	"bufio"
	"bytes"
	"io"
)

// splitRecords hands over what comes before each end mark; what follows the
// last one was cut off and is left out. A newline between records is not part
// of them. The slice is valid during the call.
func splitRecords(in io.Reader, end []byte, f func([]byte) error) error {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 1<<16), 4<<20)
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.Index(data, end); i >= 0 {
			return i + len(end), data[:i], nil
		}
		if atEOF {
			return len(data), nil, nil
		}
		return 0, nil, nil
	})
	for s.Scan() {
		if err := f(s.Bytes()); err != nil {
			// The rest is read all the same, or the writer would block.
			io.Copy(io.Discard, in)
			return err
		}
	}
	return s.Err()
}
