package vfs

// pageBytes is the unit in which contents are shared between copies.
const pageBytes = 4096

// sectorBytes is what a disk writes whole or not at all.
const sectorBytes = 512

// content is the bytes of a file. Copies made by clone share pages until one of
// them is written. Bytes past size are zero in every page.
type content struct {
	pages []page
	size  int64
	own   *owner
}

// page is pageBytes bytes, or nil for zeros. A content may write to it only if it
// is the owner.
type page struct {
	b   []byte
	own *owner
}

// owner tells contents apart. It is not empty: pointers to empty values may be equal.
type owner struct{ _ byte }

// clone returns a copy. Neither the copy nor c owns the shared pages afterwards.
func (c *content) clone() content {
	if len(c.pages) == 0 {
		return content{size: c.size}
	}
	c.own = nil
	return content{pages: append([]page(nil), c.pages...), size: c.size}
}

// readAt copies what there is at off and returns how much.
func (c *content) readAt(b []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	b = b[:min(int64(len(b)), c.size-off)]
	for n := 0; n < len(b); {
		i, at := (off+int64(n))/pageBytes, (off+int64(n))%pageBytes
		part := b[n:min(len(b), n+int(pageBytes-at))]
		if i < int64(len(c.pages)) && c.pages[i].b != nil {
			copy(part, c.pages[i].b[at:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	return len(b)
}

// writeAt stores b at off and grows the size if needed.
func (c *content) writeAt(b []byte, off int64) {
	if len(b) == 0 {
		return
	}
	c.size = max(c.size, off+int64(len(b)))
	for n := 0; n < len(b); {
		i, at := (off+int64(n))/pageBytes, (off+int64(n))%pageBytes
		n += copy(c.writable(i)[at:], b[n:])
	}
}

// setSize cuts the content, or grows it with zeros.
func (c *content) setSize(size int64) {
	if size < c.size {
		keep := (size + pageBytes - 1) / pageBytes
		if keep < int64(len(c.pages)) {
			clear(c.pages[keep:])
			c.pages = c.pages[:keep]
		}
		if at := size % pageBytes; at > 0 && keep <= int64(len(c.pages)) && c.pages[keep-1].b != nil {
			clear(c.writable(keep - 1)[at:])
		}
	}
	c.size = size
}

// writable returns page i, copied first if it is shared.
func (c *content) writable(i int64) []byte {
	for int64(len(c.pages)) <= i {
		c.pages = append(c.pages, page{})
	}
	if c.own == nil {
		c.own = new(owner)
	}
	p := &c.pages[i]
	if p.b == nil || p.own != c.own {
		b := make([]byte, pageBytes)
		copy(b, p.b)
		*p = page{b, c.own}
	}
	return p.b
}
