//go:build mutants

package mutant

import "os"

// On reports whether a seeded bug is on.
func On(n Name) bool { return os.Getenv(Variable) == string(n) }
