package config

import (
	"cmp"
	"slices"
	"strings"
)

// settingsTable is the one table, sorted by scope and name, with an index.
type settingsTable struct {
	rows  []Setting
	index map[rowKey]int
}

type rowKey struct {
	scope Scope
	name  string
}

// table holds every row; nothing writes to it after it was put together.
var table = newTable()

func newTable() settingsTable {
	t := settingsTable{index: map[rowKey]int{}}
	for _, rows := range [][]Setting{
		serverSettings, listenerSettings, logSettings, replicationSettings, kraftSettings, metricsSettings,
		groupCoordinatorSettings, shareSettings, transactionSettings, remoteSettings, sslSettings, saslSettings,
		rotpeterSettings,
	} {
		t.rows = append(t.rows, inScope(Broker, rows)...)
	}
	t.rows = append(t.rows, inScope(Topic, topicSettings)...)
	t.rows = append(t.rows, inScope(Group, groupSettings)...)
	t.rows = append(t.rows, inScope(ClientMetrics, clientMetricsSettings)...)
	slices.SortFunc(t.rows, func(a, b Setting) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), strings.Compare(a.Name, b.Name))
	})
	for i, s := range t.rows {
		t.index[rowKey{s.Scope, s.Name}] = i
	}
	return t
}

func inScope(scope Scope, rows []Setting) []Setting {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Scope = scope
	}
	return rows
}

// Table gives all settings, sorted by scope and name.
func Table() []Setting { return slices.Clone(table.rows) }

// Lookup finds a setting by its exact name.
func Lookup(scope Scope, name string) (Setting, bool) {
	i, ok := table.index[rowKey{scope, name}]
	if !ok {
		return Setting{}, false
	}
	return table.rows[i], true
}

// row is Lookup for names written in this program: a miss is our own mistake.
func row(scope Scope, name string) Setting {
	s, ok := Lookup(scope, name)
	if !ok {
		panic("config: no " + scope.String() + " setting is named " + name)
	}
	return s
}

// rowsOf gives the settings of one scope, sorted by name.
func rowsOf(scope Scope) []Setting {
	from, _ := slices.BinarySearchFunc(table.rows, scope, func(s Setting, c Scope) int { return cmp.Compare(s.Scope, c) })
	to, _ := slices.BinarySearchFunc(table.rows, scope+1, func(s Setting, c Scope) int { return cmp.Compare(s.Scope, c) })
	return table.rows[from:to]
}

// Nearest gives the name in scope that takes the fewest edits (insert, delete,
// replace, swap of neighbours) to reach from name; the first by the alphabet
// of several.
func Nearest(scope Scope, name string) string {
	best, bestDistance := "", -1
	for _, s := range rowsOf(scope) {
		if s.Internal {
			continue
		}
		if d := editDistance(name, s.Name); bestDistance < 0 || d < bestDistance {
			best, bestDistance = s.Name, d
		}
	}
	return best
}

// maxCompared bounds the work on names from outside; no setting is longer.
const maxCompared = 128

// editDistance is the optimal string alignment distance in bytes.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), maxCompared)], b[:min(len(b), maxCompared)]
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			now[j] = min(replace, last[j]+1, now[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
