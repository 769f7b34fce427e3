// Package poison is the pool that the hot paths take their memory from, and the
// build that shows who uses what was given back.
//
// In a normal build a Pool is a sync.Pool, and Bytes does nothing. With the build
// tag "poison" what is released is overwritten at once: bytes, numbers, texts, and
// the elements of lists; pointers, functions and maps become nil. It is never handed
// out again. So whoever still reads it sees nonsense (a CRC that is wrong, a topic
// called "poisoned", a nil pointer) instead of another request's data, which may
// look right. It is kept for a while, and looked at once more before it goes to the
// garbage collector: whoever wrote to it meanwhile ends the program.
//
// A list of bytes is often a part of somebody else's memory. Only that of a field
// with the tag `poison:"own"` is overwritten, in its whole capacity; any other is
// replaced. The elements of other lists must be the value's own.
//
// `make poison` runs the tests and the real clients against such a build.
package poison

// Pattern is the byte that released memory is filled with in a build with poison.
const Pattern = 0xDB
