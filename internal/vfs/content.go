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

// page is up to pageBytes bytes, zeros beyond them. A content may write to it only
// if it is the owner.
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
		have := 0
		if i < int64(len(c.pages)) && at < int64(len(c.pages[i].b)) {
			have = copy(part, c.pages[i].b[at:])
		}
		clear(part[have:])
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
		end := min(int64(pageBytes), at+int64(len(b)-n))
		n += copy(c.writable(i, end)[at:end], b[n:])
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
		if at := size % pageBytes; at > 0 && keep <= int64(len(c.pages)) && int64(len(c.pages[keep-1].b)) > at {
			clear(c.writable(keep-1, at)[at:])
		}
	}
	c.size = size
}

// writable returns page i with at least n bytes, copied first if it is shared. Most
// files of a test are small, and so are their pages.
func (c *content) writable(i, n int64) []byte {
	for int64(len(c.pages)) <= i {
		c.pages = append(c.pages, page{})
	}
	if c.own == nil {
		c.own = new(owner)
	}
	p := &c.pages[i]
	have := int64(len(p.b))
	if have >= n && p.own == c.own && have > 0 {
		return p.b
	}
	size := max(have, sectorBytes)
	for size < n {
		size = min(2*size, pageBytes)
	}
	b := make([]byte, size)
	copy(b, p.b)
	*p = page{b, c.own}
	return p.b
}
