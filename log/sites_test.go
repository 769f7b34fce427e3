package log

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// helpers are the functions of this package that stand for their caller in the table of
// call sites, each with whether it changes the disk.
func helpers() map[string]bool {
	return map[string]bool{
		"writeFile": true, "replaceFile": true, "replaceDurably": true, "syncFile": true, "Store.syncDir": true,
		"readFile": false, "lazyFile.open": false,
	}
}

// callers finds out which call site a call came from.
var callers = vfs.NewSites(helper)

// helper tells whether a function, by its name at run time, is a helper or a closure in one.
func helper(function string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(function, "log."), ".func")
	name = strings.NewReplacer("(*", "", ")", "").Replace(name)
	_, ok := helpers()[name]
	return ok
}

// callSite is a place in the sources of this package that calls the file system, itself
// or by a helper.
type callSite struct {
	file     string
	from, to int // lines
	function string
	calls    string // the method or helper
	changes  bool   // it may change what is on disk
	deferred bool   // it runs at another line than it stands on
}

func (s callSite) String() string {
	return fmt.Sprintf("%s:%d %s %s", s.file, s.from, s.function, s.calls)
}

// is tells whether calls were made at this site.
func (s callSite) is(at vfs.Site) bool {
	if filepath.Base(at.File) != s.file {
		return false
	}
	if s.deferred {
		return strings.HasSuffix(at.Func, "."+s.function)
	}
	return at.Line >= s.from && at.Line <= s.to
}

// changing are the methods of vfs.FS and vfs.File that change what is on disk.
var changing = []string{"Lock", "MkdirAll", "Remove", "RemoveAll", "Rename", "Sync", "SyncDir", "SyncFS", "Truncate", "WriteAt", "WriteBuffersAt"}

// callSites reads the sources. Only the types of vfs and io are needed: what else is
// imported stays unknown, and the errors of that are of no interest.
func callSites(t *testing.T) []callSite {
	t.Helper()
	fset := token.NewFileSet()
	im := &imports{fset: fset, source: importer.ForCompiler(fset, "source", nil), done: map[string]*types.Package{}}
	files, info := im.check("github.com/rotpeter/rotpeter/log", ".")
	var all []callSite
	for _, file := range files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil || isHelper(f) {
				continue
			}
			deferred := map[ast.Node]bool{}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.DeferStmt:
					deferred[n.Call] = true
				case *ast.CallExpr:
					if s, ok := site(fset, info, f, n); ok {
						s.deferred = deferred[n]
						all = append(all, s)
					}
				}
				return true
			})
		}
	}
	if len(all) < 40 {
		t.Fatalf("only %d call sites were found: the reader of sources is broken", len(all))
	}
	return all
}

// functionName gives Type.Method or Function.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	typ := f.Recv.List[0].Type
	if p, ok := typ.(*ast.StarExpr); ok {
		typ = p.X
	}
	if g, ok := typ.(*ast.IndexExpr); ok {
		typ = g.X
	}
	return typ.(*ast.Ident).Name + "." + f.Name.Name
}

func isHelper(f *ast.FuncDecl) bool {
	_, ok := helpers()[functionName(f)]
	return ok
}

// site tells whether a call is one of the file system.
func site(fset *token.FileSet, info *types.Info, in *ast.FuncDecl, call *ast.CallExpr) (callSite, bool) {
	s := callSite{file: filepath.Base(fset.Position(call.Pos()).Filename), from: fset.Position(call.Pos()).Line, to: fset.Position(call.End()).Line, function: in.Name.Name}
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		changes, ok := helpers()[fun.Name]
		s.calls, s.changes = fun.Name, changes
		return s, ok
	case *ast.SelectorExpr:
		sel := info.Selections[fun]
		if sel == nil || sel.Obj().Pkg() == nil {
			return s, false
		}
		s.calls = fun.Sel.Name
		if sel.Obj().Pkg().Name() == "log" {
			recv := sel.Recv()
			if p, ok := recv.(*types.Pointer); ok {
				recv = p.Elem()
			}
			named, ok := recv.(*types.Named)
			if !ok {
				return s, false
			}
			var changes bool
			changes, ok = helpers()[named.Obj().Name()+"."+fun.Sel.Name]
			s.changes = changes || opensNew(call)
			return s, ok
		}
		onFile := slices.Contains([]string{"vfs", "io"}, sel.Obj().Pkg().Name()) && !slices.Contains([]string{"Fd", "Name"}, s.calls)
		s.changes = slices.Contains(changing, s.calls) || opensNew(call)
		return s, onFile
	}
	return s, false
}

// opensNew tells whether O_CREATE is among the arguments.
func opensNew(call *ast.CallExpr) (yes bool) {
	for _, a := range call.Args {
		ast.Inspect(a, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			yes = yes || ok && id.Name == "O_CREATE"
			return true
		})
	}
	return yes
}

// imports makes go/types read vfs from here and io from the standard library.
type imports struct {
	fset   *token.FileSet
	source types.Importer
	done   map[string]*types.Package
}

func (im *imports) Import(path string) (*types.Package, error) {
	if p := im.done[path]; p != nil {
		return p, nil
	}
	var p *types.Package
	var err error
	switch path {
	case "io", "io/fs":
		p, err = im.source.Import(path)
	default:
		p = types.NewPackage(path, filepath.Base(path))
		if strings.HasSuffix(path, "/internal/vfs") {
			p, _ = im.parse(path, "../internal/vfs", nil)
		}
		p.MarkComplete()
	}
	im.done[path] = p
	return p, err
}

func (im *imports) check(path, dir string) ([]*ast.File, *types.Info) {
	info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
	_, files := im.parse(path, dir, info)
	return files, info
}

func (im *imports) parse(path, dir string, info *types.Info) (*types.Package, []*ast.File) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		panic(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_darwin.go") {
			continue
		}
		f, err := parser.ParseFile(im.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			panic(err) // it was compiled a moment ago
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: im, Error: func(error) {}}
	p, _ := conf.Check(path, im.fset, files, info)
	return p, files
}

// reportSites prints how often something happened at each call site. A site that needs it
// and had none fails the test, unless it is a short one, which takes samples.
func reportSites(t *testing.T, what string, counts map[vfs.Site]int, needs func(callSite) bool) {
	t.Helper()
	var table strings.Builder
	known := map[vfs.Site]bool{}
	for _, s := range callSites(t) {
		n := 0
		for at, count := range counts {
			if s.is(at) {
				n += count
				known[at] = true
			}
		}
		fmt.Fprintf(&table, "%9d  %v\n", n, s)
		if n == 0 && needs(s) && !testing.Short() {
			t.Errorf("%s: no %s at %v", t.Name(), what, s)
		}
	}
	for at := range counts {
		if !known[at] && !strings.HasSuffix(at.File, "_test.go") {
			t.Errorf("calls come from %v, which is not among the call sites that the sources show", at)
		}
	}
	t.Logf("%s by call site:\n%s", what, table.String())
}
