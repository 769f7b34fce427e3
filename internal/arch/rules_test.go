package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the import path in front of every folder of the project.
const module = "github.com/rotpeter/rotpeter"

const (
	maxFunctionLines = 70
	maxFileLines     = 600
)

// source is one parsed Go file.
type source struct {
	folder string // slash-separated, relative to the project's root
	name   string
	test   bool
	lines  int
	fset   *token.FileSet
	file   *ast.File
}

// parse reads one file's text; all files of one reading share the file set. A file that does not parse is a failure of the
// build, so the error names it and goes up.
func parse(fset *token.FileSet, filename string, text []byte) (source, error) {
	s := source{
		folder: path.Dir(filename),
		name:   path.Base(filename),
		test:   strings.HasSuffix(filename, "_test.go"),
		lines:  strings.Count(string(text), "\n"),
		fset:   fset,
	}
	f, err := parser.ParseFile(s.fset, filename, text, parser.ParseComments)
	s.file = f
	return s, err
}

// at names the place of a node, with the line.
func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s/%s:%d", s.folder, s.name, s.fset.Position(n.Pos()).Line)
}

// imports gives the file's import paths by the name that the file uses.
func (s source) imports() map[string]string {
	byName := map[string]string{}
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has checked it
		}
		name := path.Base(p)
		if strings.HasPrefix(name, "v") && strings.Trim(name[1:], "0123456789") == "" {
			name = path.Base(path.Dir(p)) // math/rand/v2 is rand
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		byName[name] = p
	}
	return byName
}

// within reports whether p is folder or lies below it.
func within(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, folder+"/")
}

// find gives the row of a folder: its own, or one above it that says so.
func find(table map[string]room, folder string) (room, bool) {
	if r, ok := table[folder]; ok {
		return r, true
	}
	for up := path.Dir(folder); up != "."; up = path.Dir(up) {
		if r, ok := table[up]; ok && r.below {
			return r, true
		}
	}
	return room{}, false
}

// checkImports holds every import against the table of rooms.
func checkImports(table map[string]room, files []source) []string {
	var bad []string
	for _, s := range files {
		r, known := find(table, s.folder)
		if !known {
			bad = append(bad, fmt.Sprintf("%s/%s: folder %s has no row in the table of rooms", s.folder, s.name, s.folder))
			continue
		}
		for _, spec := range s.file.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil || mayImport(r, s, p) {
				continue
			}
			bad = append(bad, fmt.Sprintf("%s: %s may not import %s", s.at(spec), s.folder, p))
		}
	}
	return bad
}

// mayImport decides one import of one file of a room.
func mayImport(r room, s source, p string) bool {
	if p == "log" { // this project logs with log/slog; its own log is a room
		return false
	}
	if folder, ours := strings.CutPrefix(p, module+"/"); ours {
		if r.all || folder == s.folder {
			return true
		}
		allowed := r.imports
		if s.test {
			allowed = append(append(slices.Clone(allowed), r.testImports...), "internal")
		}
		return slices.ContainsFunc(allowed, func(a string) bool { return within(folder, a) })
	}
	first, _, _ := strings.Cut(p, "/")
	if !strings.Contains(first, ".") || s.test { // standard library; tests may use any module of go.mod
		return true
	}
	return slices.ContainsFunc(r.libraries, func(a string) bool { return within(p, a) })
}

// checkFolders compares the folders of the top level with the list, both ways,
// and the rows of the table with the folders that hold Go code.
func checkFolders(table map[string]room, want, got []string, files []source) []string {
	var bad []string
	for _, f := range got {
		if !slices.Contains(want, f) {
			bad = append(bad, fmt.Sprintf("folder %s at the top level is not one of the design's", f))
		}
	}
	for _, f := range want {
		if !slices.Contains(got, f) {
			bad = append(bad, fmt.Sprintf("folder %s is missing at the top level", f))
		}
	}
	for name, r := range table {
		if !r.later && !slices.ContainsFunc(files, func(s source) bool { return s.folder == name }) {
			bad = append(bad, fmt.Sprintf("room %s has no Go code", name))
		}
	}
	slices.Sort(bad)
	return bad
}

// impure names, by import path, what a pure room may not call or name. A nil
// list forbids the whole package.
var impure = map[string][]string{
	"time":         {"Now", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick", "Since", "Until"},
	"sync":         {"Mutex", "RWMutex", "WaitGroup", "Cond", "NewCond"},
	"math/rand":    nil,
	"math/rand/v2": nil,
	"crypto/rand":  nil,
	"os":           nil,
	"net":          nil,
}

// checkPure reports what ties a pure room to the world.
func checkPure(table map[string]room, files []source) []string {
	var bad []string
	for _, s := range files {
		if r, _ := find(table, s.folder); !r.pure || s.test {
			continue
		}
		names := s.imports()
		for _, p := range names {
			if list, listed := impure[p]; listed && list == nil {
				bad = append(bad, fmt.Sprintf("%s/%s: pure room imports %s", s.folder, s.name, p))
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				bad = append(bad, s.at(n)+": go statement in a pure room")
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && slices.Contains(impure[names[x.Name]], n.Sel.Name) {
					bad = append(bad, fmt.Sprintf("%s: %s.%s in a pure room", s.at(n), x.Name, n.Sel.Name))
				}
			}
			return true
		})
	}
	slices.Sort(bad)
	return bad
}

// checkInit reports init functions: what they set up is package-level state.
func checkInit(files []source) []string {
	var bad []string
	for _, s := range files {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				bad = append(bad, s.at(f)+": init function")
			}
		}
	}
	return bad
}

// checkVars reports package-level variables that are, or may become, state.
//
// Left alone are blank variables, errors made by errors.New or fmt.Errorf, and
// tables: values written in the source (or compiled from it by one of the
// calls in compiles, or by a function of the package) that nothing in their
// package assigns to, indexes for writing, or takes the address of. A variable
// that names a lock, an atomic, a channel or a pointer is always reported.
// A write hidden behind a call (a method, a slice handed on) is not seen.
// allowed maps folder.name to the reason why one may stay; an entry that
// excuses nothing is reported too.
func checkVars(files []source, allowed map[string]string) []string {
	var bad []string
	used := map[string]bool{}
	for _, pkg := range packages(files) {
		written := writtenVars(pkg)
		for _, s := range pkg {
			for _, v := range packageVarsOf(s) {
				why := suspicious(s, v)
				if why == "" && written[v.name.Name] {
					why = "its package writes to it"
				}
				if why == "" {
					continue
				}
				key := s.folder + "." + v.name.Name
				if allowed[key] != "" {
					used[key] = true
					continue
				}
				bad = append(bad, fmt.Sprintf("%s: package-level variable %s: %s", s.at(v.name), v.name.Name, why))
			}
		}
	}
	return append(bad, unused("packageVars", allowed, used)...)
}

// packages groups the files that are not tests by folder, in order.
func packages(files []source) [][]source {
	byFolder := map[string][]source{}
	var order []string
	for _, s := range files {
		if s.test {
			continue
		}
		if byFolder[s.folder] == nil {
			order = append(order, s.folder)
		}
		byFolder[s.folder] = append(byFolder[s.folder], s)
	}
	slices.Sort(order)
	var all [][]source
	for _, f := range order {
		all = append(all, byFolder[f])
	}
	return all
}

// packageVar is one name of a package-level var declaration.
type packageVar struct {
	name  *ast.Ident
	typ   ast.Expr // nil when inferred
	value ast.Expr // nil without an initializer
}

func packageVarsOf(s source) []packageVar {
	var vars []packageVar
	for _, d := range s.file.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			vs := spec.(*ast.ValueSpec)
			for i, name := range vs.Names {
				if name.Name == "_" {
					continue
				}
				v := packageVar{name: name, typ: vs.Type}
				switch {
				case len(vs.Values) == len(vs.Names):
					v.value = vs.Values[i]
				case len(vs.Values) == 1:
					v.value = vs.Values[0]
				}
				vars = append(vars, v)
			}
		}
	}
	return vars
}

// compiles are the calls of other packages whose result is a table: made once
// from what stands in the source, and read only from then on.
var compiles = []string{
	"errors.New", "fmt.Errorf", "regexp.MustCompile", "hash/crc32.MakeTable", "strings.NewReplacer",
	"net/netip.MustParsePrefix", "net/netip.MustParseAddr", "time.UnixMilli", "time.Unix",
	"slices.Sorted", "maps.Keys", "math.Inf", "math.NaN", "encoding/binary.BigEndian",
}

// suspicious says why a variable's own declaration is more than a table, or "".
func suspicious(s source, v packageVar) string {
	names := s.imports()
	if v.value == nil {
		if why := stateful(names, v.typ); why != "" {
			return why
		}
		if sel, ok := v.typ.(*ast.SelectorExpr); ok && s.qualified(names, sel) != "embed.FS" {
			return "a zero " + s.qualified(names, sel) + " is there to be changed"
		}
		return ""
	}
	if why := stateful(names, v.typ); why != "" {
		return why
	}
	why := ""
	ast.Inspect(v.value, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit: // a function's body runs later, on its own variables
			return false
		case *ast.CompositeLit:
			if w := stateful(names, n.Type); w != "" {
				why = w
			}
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				why = "a pointer can be written through"
			}
		case *ast.CallExpr:
			if w := suspiciousCall(s, names, n); w != "" {
				why = w
			}
		}
		return why == ""
	})
	return why
}

func suspiciousCall(s source, names map[string]string, call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		if f.Name == "make" || f.Name == "new" {
			return f.Name + " gives something to be filled"
		}
	case *ast.SelectorExpr:
		q := s.qualified(names, f)
		if q != "" && !slices.Contains(compiles, q) && !strings.HasPrefix(q, module) {
			return "the result of " + q + " may be state"
		}
	}
	return ""
}

// qualified gives importpath.Name of a selector on an imported package, or "".
func (s source) qualified(names map[string]string, sel *ast.SelectorExpr) string {
	if x, ok := sel.X.(*ast.Ident); ok && names[x.Name] != "" {
		return names[x.Name] + "." + sel.Sel.Name
	}
	return ""
}

// stateful says why a type as written is there to be changed, or "".
func stateful(names map[string]string, typ ast.Expr) string {
	if typ == nil {
		return ""
	}
	why := ""
	ast.Inspect(typ, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncType:
			return false
		case *ast.ChanType:
			why = "a channel is state"
		case *ast.StarExpr:
			why = "a pointer can be written through"
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && (names[x.Name] == "sync" || names[x.Name] == "sync/atomic") {
				why = x.Name + "." + n.Sel.Name + " is state"
			}
		}
		return why == ""
	})
	return why
}

// writtenVars gives the package-level variables that some function of the
// package assigns to, increments, writes an element or field of, deletes from
// or takes the address of. Names are resolved by go/types without the imported
// packages, so a local variable of the same name does not count.
func writtenVars(pkg []source) map[string]bool {
	var files []*ast.File
	written := map[string]bool{}
	for _, s := range pkg {
		files = append(files, s.file)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: noImports{}, Error: func(error) {}}
	checked, _ := conf.Check(pkg[0].folder, pkg[0].fset, files, info) // errors are expected: imports are missing
	mark := func(e ast.Expr) {
		if id := root(e); id != nil {
			if v, ok := info.Uses[id].(*types.Var); ok && v.Parent() == checked.Scope() {
				written[id.Name] = true
			}
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, l := range n.Lhs {
					mark(l)
				}
			case *ast.IncDecStmt:
				mark(n.X)
			case *ast.RangeStmt:
				mark(n.Key)
				mark(n.Value)
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					mark(n.X)
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"delete", "clear", "copy"}, f.Name) && len(n.Args) > 0 {
					mark(n.Args[0])
				}
			}
			return true
		})
	}
	return written
}

// root gives the variable that a write to e changes: x of x, x[i], x.f, *x, x[i:j].
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// noImports makes go/types resolve one package's names by itself.
type noImports struct{}

func (noImports) Import(p string) (*types.Package, error) {
	if p == "unsafe" {
		return types.Unsafe, nil
	}
	return nil, fmt.Errorf("%s is not loaded", p)
}

// checkLengths reports functions and files over the limits that have no reason
// in the tables, and reasons that nothing needs any more. Tests and generated
// files are free.
func checkLengths(files []source, functions, longs map[string]string) []string {
	var bad []string
	usedFunctions, usedFiles := map[string]bool{}, map[string]bool{}
	for _, s := range files {
		if s.test || ast.IsGenerated(s.file) {
			continue
		}
		name := s.folder + "/" + s.name
		if s.lines > maxFileLines {
			usedFiles[name] = true
			if longs[name] == "" {
				bad = append(bad, fmt.Sprintf("%s has %d lines, over %d, and no reason in longFiles", name, s.lines, maxFileLines))
			}
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if n <= maxFunctionLines {
				continue
			}
			key := name + ":" + functionName(f)
			usedFunctions[key] = true
			if functions[key] == "" {
				bad = append(bad, fmt.Sprintf("%s has %d lines, over %d, and no reason in longFunctions", key, n, maxFunctionLines))
			}
		}
	}
	bad = append(bad, unused("longFunctions", functions, usedFunctions)...)
	return append(bad, unused("longFiles", longs, usedFiles)...)
}

// functionName gives Function or Type.Method.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	if id := root(f.Recv.List[0].Type); id != nil {
		return id.Name + "." + f.Name.Name
	}
	return f.Name.Name
}

// unused reports the exceptions of a table that nothing needs any more.
func unused(table string, allowed map[string]string, used map[string]bool) []string {
	var bad []string
	for key := range allowed {
		if !used[key] {
			bad = append(bad, fmt.Sprintf("%s: %s is no longer needed", table, key))
		}
	}
	slices.Sort(bad)
	return bad
}

// checkPage compares the table of rooms in ARCHITECTURE.md with the one of this
// package: which rooms there are, what each may import, which are pure. Rows
// of the page that are no Go code (docs, testdata) are not rooms.
func checkPage(table map[string]room, page string) []string {
	var bad []string
	seen := map[string]bool{}
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		name, star, _ := strings.Cut(strings.Trim(strings.TrimSpace(cells[1]), "`"), "`")
		r, known := table[name]
		if !known {
			continue
		}
		seen[name] = true
		if pure := strings.TrimSpace(star) == "*"; pure != r.pure {
			bad = append(bad, fmt.Sprintf("ARCHITECTURE.md and the table disagree whether %s is pure", name))
		}
		imports := strings.TrimSpace(cells[3])
		want := "-"
		switch {
		case r.all:
			want = "all"
		case len(r.imports) > 0:
			want = "`" + strings.Join(r.imports, " ") + "`"
		}
		if imports != want {
			bad = append(bad, fmt.Sprintf("ARCHITECTURE.md says that %s may import %s, the table says %s", name, imports, want))
		}
	}
	for name, r := range table {
		if !seen[name] && !r.later {
			bad = append(bad, fmt.Sprintf("ARCHITECTURE.md has no row for %s", name))
		}
	}
	slices.Sort(bad)
	return bad
}
