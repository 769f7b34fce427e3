package arch

import (
	"fmt"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// project parses small sources written in a test: name, text, name, text, ...
func project(t *testing.T, namesAndTexts ...string) []source {
	t.Helper()
	var files []source
	fset := token.NewFileSet()
	for i := 0; i < len(namesAndTexts); i += 2 {
		s, err := parse(fset, namesAndTexts[i], []byte(namesAndTexts[i+1]))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, s)
	}
	return files
}

// expect compares findings with the wanted ones, each given by a part of it.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, w) }) {
			t.Errorf("no finding says %q", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d findings, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}

var small = map[string]room{
	"protocol":  {imports: []string{"internal"}, libraries: []string{kmsg}},
	"broker":    {imports: []string{"protocol", "log", "internal"}},
	"log":       {imports: []string{"log/batch"}, testImports: []string{"protocol"}},
	"log/batch": {pure: true},
	"cmd/x":     {all: true},
	"compat":    {below: true, libraries: []string{franz}},
}

func imports(pkg string, paths ...string) string {
	text := "package " + pkg + "\n"
	for _, p := range paths {
		text += fmt.Sprintf("import _ %q\n", p)
	}
	return text
}

func TestImportsCanFail(t *testing.T) {
	got := checkImports(small, project(t,
		"broker/a.go", imports("broker", "fmt", module+"/protocol", module+"/log/batch", module+"/internal/vfs"),
		"cmd/x/main.go", imports("main", module+"/broker"),
		"protocol/good.go", imports("protocol", kmsg, module+"/internal/vfs"),
		"protocol/bad.go", imports("protocol", module+"/broker", kerr),
		"log/bad.go", imports("log", "log", kmsg, module+"/protocol", module+"/logistics"),
		"log/good_test.go", imports("log", kmsg, module+"/protocol", module+"/internal/vfs"),
		"log/bad_test.go", imports("log", "log", module+"/broker"),
		"log/batch/bad.go", imports("batch", module+"/log"),
		"attic/a.go", imports("attic"),
		"log/attic/a.go", imports("attic"),
		"compat/clients/go/good.go", imports("main", kmsg),
		"compat/clients/go/bad.go", imports("main", module+"/broker"),
	))
	expect(t, got,
		"protocol/bad.go:2: protocol may not import "+module+"/broker",
		"protocol/bad.go:3: protocol may not import "+kerr,
		"log/bad.go:2: log may not import log",
		"log/bad.go:3: log may not import "+kmsg,
		"log/bad.go:4: log may not import "+module+"/protocol",
		"log/bad.go:5: log may not import "+module+"/logistics",
		"log/bad_test.go:2: log may not import log",
		"log/bad_test.go:3: log may not import "+module+"/broker",
		"log/batch/bad.go:2: log/batch may not import "+module+"/log",
		"folder attic has no row",
		"folder log/attic has no row",
		"compat/clients/go/bad.go:2: compat/clients/go may not import "+module+"/broker",
	)
}

func TestFoldersCanFail(t *testing.T) {
	table := map[string]room{"log": {}, "gone": {}, "someday": {later: true}}
	files := project(t, "log/a.go", "package log")
	expect(t, checkFolders(table, []string{"log", "docs"}, []string{"log", "util"}, files),
		"folder util at the top level", "folder docs is missing", "room gone has no Go code")
}

func TestPureCanFail(t *testing.T) {
	clock := `package batch
import ("time"; "sync")
func f(now time.Time) time.Duration { return now.Sub(time.UnixMilli(0)) }
func g() { _ = time.Now(); time.Sleep(1); <-time.After(1); time.NewTimer(1); time.Since(time.Time{}) }
type locked struct { mu sync.Mutex; rw sync.RWMutex; once sync.Once }
func h() { go g() }
`
	got := checkPure(small, project(t,
		"log/batch/clock.go", clock,
		"log/batch/clock_test.go", clock,
		"log/clock.go", strings.Replace(clock, "package batch", "package log", 1),
		"log/batch/alias.go", "package batch\nimport tick \"time\"\nvar t = tick.Now\n",
		"log/batch/world.go", imports("batch", "fmt")+"import (\"os\"; \"math/rand\"; r2 \"math/rand/v2\"; crand \"crypto/rand\")\n",
	))
	expect(t, got,
		"clock.go:4: time.Now", "clock.go:4: time.Sleep", "clock.go:4: time.After", "clock.go:4: time.NewTimer", "clock.go:4: time.Since",
		"clock.go:5: sync.Mutex", "clock.go:5: sync.RWMutex", "clock.go:6: go statement",
		"alias.go:3: tick.Now",
		"imports os", "imports math/rand", "imports math/rand/v2", "imports crypto/rand",
	)
}

func TestInitCanFail(t *testing.T) {
	got := checkInit(project(t, "log/a.go", "package log\nfunc init() {}\ntype t struct{}\nfunc (t) init() {}\nfunc initialize() {}\n"))
	expect(t, got, "log/a.go:2: init function")
}

func TestVarsCanFail(t *testing.T) {
	tables := `package log
import ("errors"; "fmt"; "hash/crc32"; "regexp"; "embed"; "io")
var ErrGone = errors.New("gone")
var errOther = fmt.Errorf("other: %w", ErrGone)
var castagnoli = crc32.MakeTable(crc32.Castagnoli)
var name = regexp.MustCompile("^[a-z]+$")
var powers = [...]int{1, 2, 4}
var byName = map[string]func() int{"a": func() int { return 1 }}
var columns = build(3)
var zero [16]byte
var version string
var docs embed.FS
var _ io.Reader = (*r)(nil)
var magic = []byte("magic")
type r struct{}
func (*r) Read([]byte) (int, error) { return 0, nil }
func build(n int) []int { powers := make([]int, n); powers[0] = 1; n++; return powers }
`
	state := `package broker
import ("sync"; "sync/atomic"; "bytes"; "time")
var counter int
var names = map[string]int{"a": 1}
var list []string
var point struct{ x int }
var pool = sync.Pool{New: func() any { return nil }}
var once sync.Once
var hits atomic.Int64
var wake chan bool
var queue = make(chan int)
var buffer bytes.Buffer
var current = &config{}
var started = time.Now()
var shared *config
var excused = new(int)
type config struct{}
`
	writes := `package broker
func f() {
	counter++
	names["b"] = 2
	list = append(list, "x")
	point.x = 3
	shadowed := 0
	shadowed++
	zeroed = 1
}
var zeroed, shadowed = 0, 0
`
	got := checkVars(project(t, "log/a.go", tables, "broker/a.go", state, "broker/b.go", writes, "broker/a_test.go", "package broker\nvar n = new(int)\n"),
		map[string]string{"broker.excused": "shown by this test", "broker.forgotten": "left behind"})
	expect(t, got,
		"variable counter: its package writes", "variable names: its package writes", "variable list: its package writes", "variable point: its package writes",
		"variable pool: sync.Pool", "variable once: sync.Once", "variable hits: atomic.Int64", "variable wake: a channel",
		"variable queue: make", "variable buffer: a zero bytes.Buffer", "variable current: a pointer", "variable started: the result of time.Now",
		"variable shared: a pointer", "variable zeroed: its package writes", "packageVars: broker.forgotten is no longer needed",
	)
}

func TestLengthsCanFail(t *testing.T) {
	function := func(head string, lines int) string {
		return head + " {\n" + strings.Repeat("\t_ = 0\n", lines-2) + "}\n"
	}
	text := "package log\ntype T struct{}\n" +
		function("func fits()", 70) + function("func long()", 71) + function("func (t *T) long()", 71) + function("func excused()", 80)
	got := checkLengths(project(t,
		"log/a.go", text,
		"log/a_test.go", text,
		"log/generated.go", "// Code generated by a test. DO NOT EDIT.\n\n"+text,
		"log/fits.go", "package log\n"+strings.Repeat("\n", 599),
		"log/long.go", "package log\n"+strings.Repeat("\n", 600),
		"log/table.go", "package log\n"+strings.Repeat("\n", 900),
	),
		map[string]string{"log/a.go:excused": "shown by this test", "log/a.go:gone": "left behind"},
		map[string]string{"log/table.go": "one table", "log/gone.go": "left behind"})
	expect(t, got,
		"log/a.go:long has 71 lines", "log/a.go:T.long has 71 lines", "log/long.go has 601 lines",
		"longFunctions: log/a.go:gone is no longer needed", "longFiles: log/gone.go is no longer needed",
	)
}

func TestPageCanFail(t *testing.T) {
	table := map[string]room{
		"log":       {imports: []string{"log/batch", "internal"}},
		"log/batch": {pure: true},
		"cmd/x":     {all: true},
		"config":    {pure: true},
		"broker":    {imports: []string{"log"}},
		"gone":      {},
		"someday":   {later: true},
	}
	page := "| folder | what it is | may import |\n| --- | --- | --- |\n" +
		"| `log` | logs | `log/batch internal` |\n" +
		"| `log/batch` * | batches | - |\n" +
		"| `cmd/x` | main | all |\n" +
		"| `config` | settings | - |\n" +
		"| `broker` | handlers | `log protocol` |\n" +
		"| `docs` | pages | |\n"
	expect(t, checkPage(table, page),
		"disagree whether config is pure", "broker may import `log protocol`, the table says `log`", "no row for gone")
}
