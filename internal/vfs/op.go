package vfs

import "fmt"

// OpKind is a kind of call on an FS or File.
type OpKind uint8

// The kinds of calls. OpAny matches all of them in a Rule.
const (
	OpAny OpKind = iota
	OpOpen
	OpRename
	OpRemove
	OpMkdir
	OpReadDir
	OpStat
	OpSyncDir
	OpSyncFS
	OpLock
	OpUsage
	OpRead
	OpWrite
	OpTruncate
	OpPreallocate
	OpSync
	OpSize
	OpClose
)

var opNames = [...]string{"any", "open", "rename", "remove", "mkdir", "readdir", "stat", "syncdir", "syncfs", "lock",
	"usage", "read", "write", "truncate", "preallocate", "sync", "size", "close"}

// String returns the kind in lower case.
func (k OpKind) String() string {
	if int(k) < len(opNames) {
		return opNames[k]
	}
	return fmt.Sprintf("op(%d)", uint8(k))
}

// Op is one call on an FS or File.
type Op struct {
	Kind OpKind
	Name string // as the caller gave it; for a File the name it was opened with
	To   string // OpRename: the new name
	Off  int64  // OpRead, OpWrite, OpPreallocate: offset; OpTruncate: size
	Len  int    // OpRead, OpWrite, OpPreallocate: bytes asked for
	Call int    // position in the order of calls, from 1; assigned by Fault and Crash
	Site Site   // where in the code the call was made, if asked for (Trace)
}

// String describes the call in one line.
func (o Op) String() string {
	switch o.Kind {
	case OpRead, OpWrite, OpPreallocate:
		return fmt.Sprintf("#%d %v %s at %d len %d", o.Call, o.Kind, o.Name, o.Off, o.Len)
	case OpTruncate:
		return fmt.Sprintf("#%d %v %s to %d", o.Call, o.Kind, o.Name, o.Off)
	case OpRename:
		return fmt.Sprintf("#%d %v %s to %s", o.Call, o.Kind, o.Name, o.To)
	}
	return fmt.Sprintf("#%d %v %s", o.Call, o.Kind, o.Name)
}
