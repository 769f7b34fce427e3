package vfs

import (
	"encoding/binary"
	"hash/maphash"
)

// Fingerprint is the same for file systems with the same names and bytes, whatever
// of them is durable, and different for others but for one case in 2^64. Compare
// only those made with the same seed.
func (c *Crash) Fingerprint(seed maphash.Seed) uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var h maphash.Hash
	h.SetSeed(seed)
	c.root.fingerprint(&h)
	return h.Sum64()
}

func (n *inode) fingerprint(h *maphash.Hash) {
	if n.dir() {
		for _, name := range sortedNames(n.entries) {
			_, _ = h.WriteString(name)
			_ = h.WriteByte(0)
			n.entries[name].fingerprint(h)
		}
		_ = h.WriteByte(1)
		return
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(n.data.size))
	_, _ = h.Write(size[:])
	for off := int64(0); off < n.data.size; off += pageBytes {
		var b []byte // without the zeros at its end: a page may store them or not
		if i := off / pageBytes; i < int64(len(n.data.pages)) {
			b = n.data.pages[i].b
			b = b[:min(int64(len(b)), n.data.size-off)]
		}
		for len(b) > 0 && b[len(b)-1] == 0 {
			b = b[:len(b)-1]
		}
		binary.LittleEndian.PutUint64(size[:], uint64(len(b)))
		_, _ = h.Write(size[:])
		_, _ = h.Write(b)
	}
}

// Forgetful tells whether a failed Sync lost bytes that are still read: they go with the
// next power cut, whatever is synced until then without being written again.
func (c *Crash) Forgetful() (yes bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	walk(c.root, func(n *inode) {
		n.mu.RLock()
		defer n.mu.RUnlock()
		yes = yes || n.dropped
	})
	return yes
}
