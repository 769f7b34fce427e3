package null

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// Kafka's error codes, as far as they are answered.
const (
	offsetOutOfRange = 1
	corruptMessage   = 2
	unknownTopic     = 3
)

var errMalformed = errors.New("malformed request")

func appendString(b []byte, s []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// produce answers Produce, versions 3 to 8.
func (c *conn) produce(r *reader, version int16, correlation int32) error {
	r.string() // transactional id
	acks := r.i16()
	r.i32() // timeout
	start := len(c.out)
	c.out = binary.BigEndian.AppendUint32(c.out, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(correlation))
	topics := r.count()
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(topics))
	for range topics {
		name := r.string()
		t, err := c.s.topic(string(name), 0)
		if err != nil {
			return err
		}
		n := r.count()
		c.out = binary.BigEndian.AppendUint32(appendString(c.out, name), uint32(n))
		for range n {
			index := r.i32()
			records := r.take(int(r.i32()))
			if r.failed {
				return errMalformed
			}
			offset, code, err := t.produce(index, records)
			if err != nil {
				return err
			}
			c.out = binary.BigEndian.AppendUint32(c.out, uint32(index))
			c.out = binary.BigEndian.AppendUint16(c.out, uint16(code))
			c.out = binary.BigEndian.AppendUint64(c.out, uint64(offset))
			c.out = binary.BigEndian.AppendUint64(c.out, ^uint64(0)) // no log append time
			if version >= 5 {
				c.out = binary.BigEndian.AppendUint64(c.out, 0)
			}
			if version >= 8 {
				c.out = binary.BigEndian.AppendUint32(c.out, 0)
				c.out = binary.BigEndian.AppendUint16(c.out, 0xffff)
			}
		}
	}
	c.out = binary.BigEndian.AppendUint32(c.out, 0)
	if acks == 0 {
		c.out = c.out[:start]
		return nil
	}
	binary.BigEndian.PutUint32(c.out[start:], uint32(len(c.out)-start-4))
	return nil
}

func (t *topic) produce(index int32, b []byte) (offset int64, code int16, err error) {
	switch {
	case t == nil || index < 0 || int(index) >= len(t.partitions):
		return -1, unknownTopic, nil
	case len(b) < batchHeader || crc32.Checksum(b[crcFrom:], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[crcFrom-4:]):
		return -1, corruptMessage, nil
	}
	offset, err = t.partitions[index].append(b)
	return offset, 0, err
}

// wanted is one partition of a fetch.
type wanted struct {
	topic  []byte
	first  bool // of its topic
	of     int  // partitions of the topic
	index  int32
	offset int64
	most   int

	p         *partition
	code      int16
	high      int64
	pos, size int64
}

// fetch answers Fetch, versions 4 to 11, without sessions.
func (c *conn) fetch(r *reader, version int16, correlation int32) error {
	r.i32() // replica
	wait := time.Duration(r.i32()) * time.Millisecond
	least, most := int64(r.i32()), int(r.i32())
	r.i8() // isolation
	if version >= 7 {
		r.i32() // session
		r.i32()
	}
	var all []wanted
	topics := r.count()
	for range topics {
		name := r.string()
		t, err := c.s.topic(string(name), 0)
		if err != nil {
			return err
		}
		n := r.count()
		for i := range n {
			w := wanted{topic: name, first: i == 0, of: n, index: r.i32()}
			if version >= 9 {
				r.i32()
			}
			w.offset = r.i64()
			if version >= 5 {
				r.i64()
			}
			w.most = int(r.i32())
			if t != nil && w.index >= 0 && int(w.index) < len(t.partitions) {
				w.p = t.partitions[w.index]
			}
			all = append(all, w)
		}
	}
	if r.failed {
		return errMalformed
	}
	if look(all, most) < least && wait > 0 {
		if err := c.flush(); err != nil {
			return err
		}
		await(all, most, least, wait)
	}
	return c.send(all, topics, version, correlation)
}

// look finds the whole batches that there are and answers their bytes. An error counts as enough.
func look(all []wanted, most int) int64 {
	var total int64
	for i := range all {
		w := &all[i]
		if w.p == nil {
			w.code, w.high = unknownTopic, -1
			return 1 << 40
		}
		w.p.mu.Lock()
		w.find(min(w.most, most-int(total)), total == 0)
		w.p.mu.Unlock()
		if total += w.size; w.code != 0 {
			return 1 << 40
		}
	}
	return total
}

// find looks for at most so many bytes from the offset on; first is at least one batch.
func (w *wanted) find(most int, first bool) {
	p := w.p
	w.high, w.size, w.code = p.end.offset, 0, 0
	if w.offset < 0 || w.offset > w.high {
		w.code = offsetOutOfRange
		return
	}
	n := len(p.batches)
	if w.offset == w.high {
		return
	}
	i := sort.Search(n, func(i int) bool { return p.batches[i].offset > w.offset }) - 1
	w.pos = p.batches[i].pos
	j := i + sort.Search(n-i, func(k int) bool { return p.ending(i+k)-w.pos > int64(max(most, 0)) })
	if j == i && first {
		j++
	}
	if j > i {
		w.size = p.ending(j-1) - w.pos
	}
}

// ending is where a batch ends.
func (p *partition) ending(i int) int64 {
	if i+1 < len(p.batches) {
		return p.batches[i+1].pos
	}
	return p.end.pos
}

// await waits until there are enough bytes, or the time is over.
func await(all []wanted, most int, least int64, wait time.Duration) {
	wake := make(chan struct{}, 1)
	for i := range all {
		if p := all[i].p; p != nil {
			p.mu.Lock()
			if p.waiting == nil {
				p.waiting = map[chan struct{}]bool{}
			}
			p.waiting[wake] = true
			p.mu.Unlock()
			defer func() {
				p.mu.Lock()
				delete(p.waiting, wake)
				p.mu.Unlock()
			}()
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for look(all, most) < least {
		select {
		case <-wake:
		case <-timer.C:
			return
		}
	}
}

// send writes the answer: what is not records by itself, and the records from their files.
func (c *conn) send(all []wanted, topics int, version int16, correlation int32) error {
	start := len(c.out)
	var bytes int64
	c.out = binary.BigEndian.AppendUint32(c.out, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(correlation))
	c.out = binary.BigEndian.AppendUint32(c.out, 0)
	if version >= 7 {
		c.out = append(c.out, 0, 0, 0, 0, 0, 0)
	}
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(topics))
	ends := make([]int, len(all)) // of what stands before each partition's records
	for i := range all {
		w := &all[i]
		if w.first {
			c.out = binary.BigEndian.AppendUint32(appendString(c.out, w.topic), uint32(w.of))
		}
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(w.index))
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(w.code))
		c.out = binary.BigEndian.AppendUint64(c.out, uint64(w.high))
		c.out = binary.BigEndian.AppendUint64(c.out, uint64(w.high))
		if version >= 5 {
			c.out = binary.BigEndian.AppendUint64(c.out, 0)
		}
		c.out = binary.BigEndian.AppendUint32(c.out, 0xffffffff) // no aborted transactions
		if version >= 11 {
			c.out = binary.BigEndian.AppendUint32(c.out, 0xffffffff)
		}
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(w.size))
		ends[i] = len(c.out)
		bytes += w.size
	}
	binary.BigEndian.PutUint32(c.out[start:], uint32(int64(len(c.out)-start-4)+bytes))
	at := 0
	for i := range all {
		w := &all[i]
		if w.size == 0 {
			continue
		}
		if _, err := c.nc.Write(c.out[at:ends[i]]); err != nil {
			return err
		}
		at = ends[i]
		if err := c.sendFile(w); err != nil {
			return err
		}
	}
	c.out = append(c.out[:0], c.out[at:]...)
	return nil
}

// sendFile sends records by sendfile(2).
func (c *conn) sendFile(w *wanted) error {
	raw, err := c.nc.SyscallConn()
	if err != nil {
		return err
	}
	pos, end := w.pos, w.pos+w.size
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		for pos < end {
			n, err := unix.Sendfile(int(fd), w.p.fd, &pos, int(end-pos))
			switch {
			case errors.Is(err, unix.EAGAIN):
				return false
			case errors.Is(err, unix.EINTR):
			case err == nil && n == 0:
				sendErr = io.ErrUnexpectedEOF
				return true
			case err != nil:
				sendErr = err
				return true
			}
		}
		return true
	})
	return errors.Join(err, sendErr)
}
