// Package vfs is where the disk comes in: everything that touches files does so
// through FS.
//
//	OS     the real thing
//	Mem    in memory, forgets nothing and syncs nothing
//	Crash  in memory, knows what is durable: Crash.Crash gives the file system that
//	       a power cut or a kill may leave
//	Fault  wraps another FS and fails, cuts short or delays chosen calls
//
// For tests: Crash.Moment keeps a moment to crash from later, Crash.Fingerprint tells
// whether two crashes left the same, Trace has calls say where they come from, and Damage
// does to a file what a bad disk may do.
//
// What counts as durable in Crash is what POSIX promises, not what one file
// system happens to do: File.Sync covers the bytes and the size of a file but
// not its name, SyncDir covers the names in one directory.
package vfs
