package vfs

import (
	"fmt"
	"path"
	"runtime"
	"strings"
	"sync"
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

// Sites finds out where calls come from, which is done only when asked for. It may serve several
// file systems at once: each place in the code costs some microseconds the first time it is met.
type Sites struct {
	helper func(function string) bool

	mu    sync.RWMutex
	known map[[knownDepth]uintptr]Site
}

// knownDepth is how many frames tell a place that was met before. Frames of vfs and of helpers are fewer,
// or else the place is found out each time.
const knownDepth = 8

// maxSiteDepth is how many frames are looked at.
const maxSiteDepth = 32

// NewSites is for Fault.Trace and Crash.Trace. helper names the functions that stand for their caller, as
// Site.Func does; nil: there are none.
func NewSites(helper func(function string) bool) *Sites {
	if helper == nil {
		helper = func(string) bool { return false }
	}
	return &Sites{helper: helper, known: map[[knownDepth]uintptr]Site{}}
}

// here is the innermost frame that is neither in this package nor in a helper.
func (s *Sites) here() Site {
	if s == nil {
		return Site{}
	}
	var key [knownDepth]uintptr
	n := runtime.Callers(2, key[:])
	s.mu.RLock()
	site, ok := s.known[key]
	s.mu.RUnlock()
	if ok {
		return site
	}
	if site, ok = s.find(key[:n]); ok {
		s.mu.Lock()
		s.known[key] = site
		s.mu.Unlock()
		return site
	}
	var pcs [maxSiteDepth]uintptr
	site, _ = s.find(pcs[:runtime.Callers(2, pcs[:])])
	return site
}

func (s *Sites) find(pcs []uintptr) (Site, bool) {
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		name := f.Function[strings.LastIndexByte(f.Function, '/')+1:]
		if !strings.HasPrefix(name, "vfs.") && !s.helper(name) {
			return Site{f.File, f.Line, name}, true
		}
		if !more {
			return Site{}, false
		}
	}
}
