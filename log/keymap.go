package log

import (
	"crypto/sha256"
	"encoding/binary"
)

// keyEntryBytes is what one key takes in a keyMap: half a SHA-256 and an offset.
const keyEntryBytes = keyHashBytes + 8

const keyHashBytes = 16

// keyMap knows the last offset of each key in a stretch of a log, in bounded memory
// (SkimpyOffsetMap). It keeps a hash of the key: two keys with the same one would be
// taken for one, and the older lost, so the hash is one that nobody can find a collision of.
type keyMap struct {
	entries []keyEntry // open addressing, a power of two is not needed
	used    int
	most    int   // keys that it takes
	last    int64 // offset up to which the stretch was read, -1: nothing was
}

type keyEntry struct {
	hash   [keyHashBytes]byte
	offset int64 // plus 1, so that 0 is a free place
}

// newKeyMap makes a map for at most bytes of memory and no more than keys keys, full to
// the load factor.
func newKeyMap(bytes int64, keys int64, load float64) *keyMap {
	load = min(max(load, leastLoad), mostLoad)
	places := max(bytes/keyEntryBytes, 2)
	if wanted := float64(keys)/load + 2; wanted < float64(places) {
		places = int64(wanted)
	}
	return &keyMap{entries: make([]keyEntry, places), most: min(max(int(float64(places)*load), 1), int(places)-1), last: -1}
}

// The load factor is the user's to set, but a search must end, and not take for ever.
const leastLoad, mostLoad = 0.01, 0.95

// find gives the place of a key: its own, or a free one.
func (m *keyMap) find(hash *[keyHashBytes]byte) *keyEntry {
	n := uint64(len(m.entries))
	for i := binary.LittleEndian.Uint64(hash[:]) % n; ; i++ {
		if i == n {
			i = 0
		}
		if e := &m.entries[i]; e.offset == 0 || e.hash == *hash {
			return e
		}
	}
}

func keyHash(key []byte) (h [keyHashBytes]byte) {
	sum := sha256.Sum256(key)
	copy(h[:], sum[:])
	return h
}

// put remembers the offset of a key, which is above all before. It is false if there is no room.
func (m *keyMap) put(key []byte, offset int64) bool {
	h := keyHash(key)
	e := m.find(&h)
	if e.offset == 0 {
		if m.used == m.most {
			return false
		}
		m.used++
		e.hash = h
	}
	e.offset = offset + 1
	m.last = offset
	return true
}

// offset is where a key was last seen, -1 if it was not.
func (m *keyMap) offset(key []byte) int64 {
	h := keyHash(key)
	return m.find(&h).offset - 1
}
