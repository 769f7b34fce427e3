package arch

import (
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readTree parses every Go file of the project and lists the top-level folders.
func readTree(t *testing.T) (files []source, top []string) {
	t.Helper()
	root := filepath.Join("..", "..")
	fset := token.NewFileSet()
	err := fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(ignoredFolders, p) || path.Base(p) == "node_modules" {
				return fs.SkipDir
			}
			if p != "." && !strings.Contains(p, "/") {
				top = append(top, p)
			}
			if p != "." && path.Base(p) == "testdata" && p != "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(p)))
		if err != nil {
			return err
		}
		s, err := parse(fset, p, text)
		files = append(files, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, top
}

// TestTree holds the whole project against the tables.
func TestTree(t *testing.T) {
	files, top := readTree(t)
	if len(files) == 0 {
		t.Fatal("no Go file found: the reading is broken")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []struct {
		name string
		bad  []string
	}{
		{"imports", checkImports(rooms, files)},
		{"folders", checkFolders(rooms, topFolders, top, files)},
		{"ARCHITECTURE.md", checkPage(rooms, string(page))},
		{"pure rooms", checkPure(rooms, files)},
		{"no init functions", checkInit(files)},
		{"no package-level state", checkVars(files, packageVars)},
		{"lengths", checkLengths(files, longFunctions, longFiles)},
	} {
		t.Run(rule.name, func(t *testing.T) {
			for _, b := range rule.bad {
				t.Error(b)
			}
		})
	}
}
