package mutant

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryBugIsSeeded: each name of the table stands once in the code of its room, and nothing else does.
func TestEveryBugIsSeeded(t *testing.T) {
	rooms := map[string]string{} // of the name of a constant
	values := constants(t)
	for _, b := range Bugs() {
		constant := ""
		for c, n := range values {
			if n == b.Name {
				constant = c
			}
		}
		if constant == "" || rooms[constant] != "" || b.Wrong == "" {
			t.Errorf("%s: it needs a constant of its own and a sentence", b.Name)
		}
		rooms[constant] = b.Room
	}
	if len(values) != len(rooms) {
		t.Errorf("%d constants, %d bugs in the table", len(values), len(rooms))
	}
	seen := map[string]int{}
	root := filepath.Join("..", "..")
	for _, room := range []string{"log", "broker", "coordinator", "metadata", "protocol", "config"} {
		err := filepath.WalkDir(filepath.Join(root, room), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			folder, _ := filepath.Rel(root, filepath.Dir(path))
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); !ok || x.Name != "mutant" || s.Sel.Name == "On" {
					return true
				}
				seen[s.Sel.Name]++
				if want := rooms[s.Sel.Name]; want != filepath.ToSlash(folder) {
					t.Errorf("%s: %s belongs to room %q", path, s.Sel.Name, want)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for c := range rooms {
		if seen[c] != 1 {
			t.Errorf("%s stands %d times in the code", c, seen[c])
		}
	}
}

// constants reads the constants of type Name from doc.go.
func constants(t *testing.T) map[string]Name {
	f, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Name{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Name" {
			found[v.Names[0].Name] = Name(strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
		}
		return true
	})
	return found
}

// TestOffInThisBuild: whatever the environment says, a normal build has no bug.
func TestOffInThisBuild(t *testing.T) {
	on := false
	for _, b := range Bugs() {
		t.Setenv(Variable, string(b.Name))
		on = on || On(b.Name)
	}
	if on {
		t.Error("a seeded bug is on: this is a build with the tag mutants")
	}
}
