package arch

// room is one row of the table of rooms in ARCHITECTURE.md.
type room struct {
	// imports lists the project folders that the room may import; a folder
	// stands for itself and everything below it. all lifts the limit.
	imports []string
	all     bool
	// libraries lists the modules, or folders of modules, from outside the
	// standard library that the room's code (not its tests) may import. Each of
	// them has a decision record in docs/decisions.
	libraries []string
	// testImports lists what the room's tests may import on top of imports;
	// every test may import internal/* and any adopted library.
	testImports []string
	// pure rooms have no clock, no randomness, no operating system, no
	// goroutine and no lock: what they need of the world comes in as arguments.
	pure bool
	// below says that the row also stands for the folders below the room.
	below bool
	// later says that the room is named by the design and need not exist yet.
	later bool
}

const (
	kmsg       = "github.com/twmb/franz-go/pkg/kmsg"
	kerr       = "github.com/twmb/franz-go/pkg/kerr"
	kbin       = "github.com/twmb/franz-go/pkg/kbin"
	xxh3       = "github.com/zeebo/xxh3"
	franz      = "github.com/twmb/franz-go"
	compress   = "github.com/klauspost/compress"
	lz4        = "github.com/pierrec/lz4/v4"
	prometheus = "github.com/prometheus/client_golang"
	xsys       = "golang.org/x/sys"
)

// rooms is the table of rooms. A folder with Go code and no row fails the test,
// and so does a row without a folder that is not marked later.
var rooms = map[string]room{
	"cmd/rotpeter": {all: true, libraries: []string{}},
	"protocol":     {imports: []string{"internal"}, libraries: []string{kmsg, xsys}},
	"broker": {
		imports:   []string{"protocol", "metadata", "log", "coordinator", "config", "internal"},
		libraries: []string{kmsg, kerr, prometheus},
	},
	"log":               {imports: []string{"log/batch", "internal"}},
	"log/batch":         {pure: true, libraries: []string{compress, lz4}},
	"coordinator":       {imports: []string{"internal"}},
	"coordinator/group": {pure: true, imports: shardImports, libraries: []string{kmsg, kerr, kbin, xxh3}},
	"coordinator/txn":   {pure: true, imports: shardImports, libraries: []string{kmsg, kerr, kbin}},
	"coordinator/share": {pure: true, imports: shardImports, libraries: []string{kmsg, kerr}, later: true},
	"metadata":          {pure: true, imports: []string{"coordinator", "config", "internal/invariant", "internal/mutant"}, libraries: []string{kmsg, kerr}},
	"config":            {pure: true},
	"inspect":           {imports: []string{"log", "metadata", "internal"}},

	// Only coordinator/group asks it.
	"coordinator/group/assignor": {pure: true},

	"internal/vfs":       {libraries: []string{xsys}},
	"internal/invariant": {},
	"internal/pipenet":   {},
	"internal/script":    {},
	"internal/mutant":    {},
	"internal/poison":    {},
	// A command: it runs the tests of the others.
	"internal/mutant/hunt": {imports: []string{"internal/mutant"}},
	"internal/arch":        {},

	// compat sees the broker from outside, as a client does.
	"compat": {below: true, imports: []string{"compat"}, libraries: []string{franz, xsys}},
	// bench sees a broker from outside, too; raw builds its batches with our code.
	"bench":       {imports: []string{"bench"}, libraries: []string{franz, xsys}},
	"bench/load":  {imports: []string{"bench/hist"}, libraries: []string{franz, xsys}, testImports: []string{"bench/null"}},
	"bench/raw":   {imports: []string{"bench/hist", "log/batch"}, libraries: []string{franz}, testImports: []string{"bench/null"}},
	"bench/null":  {libraries: []string{franz, xsys}},
	"bench/hist":  {},
	"bench/kfake": {libraries: []string{franz}}, // a module of its own
	// A module of its own: clients whose versions the project does not take on.
	"compat/clients/gomembers": {imports: []string{"compat/clients/member"}, libraries: []string{"github.com/IBM/sarama", "github.com/segmentio/kafka-go"}},
}

// shardImports is what a pure shard may import.
var shardImports = []string{"coordinator", "metadata", "internal/invariant", "internal/mutant"}

// topFolders are the folders of the top level, no more and no fewer. Folders
// that .gitignore names (bin, data, .cache) are made by running things.
var topFolders = []string{
	".ci", "bench", "broker", "cmd", "compat", "config", "coordinator", "docs", "inspect", "internal", "log", "metadata", "protocol", "testdata",
}

// ignoredFolders are left out of the reading: not part of the project.
var ignoredFolders = []string{".git", ".cache", "bin", "data"}

// longFunctions are the functions over 70 lines, each with the reason why it
// reads better whole. Key: folder/file.go:Function or folder/file.go:Type.Method.
var longFunctions = map[string]string{}

// longFiles are the files over 600 lines, each with its reason.
var longFiles = map[string]string{}

// packageVars are the package-level variables that rule "no package-level
// state" would flag, each with the reason why it is no state that two brokers
// in one process could feel.
var packageVars = map[string]string{}
