package vfs

import (
	"fmt"
	"path"
	"runtime"
	"strings"
	"sync/atomic"
)

// Site is a place in the code that calls an FS or File.
type Site struct {
	File string // as the compiler was given it
	Line int
	Func string // with the last part of its package's path: log.(*Store).save
}

// String is short enough for a table.
func (s Site) String() string {
	if s.File == "" {
		return "unknown"
	}
	return fmt.Sprintf("%s:%d %s", path.Base(s.File), s.Line, s.Func)
}

// tracer finds out where calls come from, which costs some microseconds each and is
// done only when asked for.
type tracer struct {
	helper atomic.Pointer[func(string) bool]
}

func (t *tracer) set(helper func(function string) bool) { t.helper.Store(&helper) }

// maxSiteDepth is how many frames are looked at: vfs and helpers are a few deep.
const maxSiteDepth = 32

// site is the innermost frame that is neither in this package nor in a helper.
func (t *tracer) site() Site {
	helper := t.helper.Load()
	if helper == nil {
		return Site{}
	}
	var pcs [maxSiteDepth]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		name := f.Function[strings.LastIndexByte(f.Function, '/')+1:]
		if !strings.HasPrefix(name, "vfs.") && !(*helper)(name) {
			return Site{f.File, f.Line, name}
		}
		if !more {
			return Site{}
		}
	}
}
