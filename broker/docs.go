package broker

import (
	"fmt"
	"strings"
)

// APIsMarkdown is docs/APIS.md: the table of what this broker serves. A test
// holds the file against it.
func APIsMarkdown() string {
	var b strings.Builder
	b.WriteString("# The APIs that Rotpeter serves\n\n")
	b.WriteString("Made from the API table in `broker/rows.go` by `make docs`; do not edit.\n")
	b.WriteString("An API or version that is not here is refused by closing the connection, as Kafka does; ApiVersions itself is answered always.\n\n")
	b.WriteString("| key | API | versions | flexible from |\n| --- | --- | --- | --- |\n")
	for _, r := range (&Broker{}).apis() {
		versions := fmt.Sprintf("%d-%d", r.min, r.max)
		if r.key == keyProduce {
			versions += " (0-2 advertised only, KAFKA-18659)"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %d |\n", r.key, r.name, versions, flexibleFrom(r.key, r.max))
	}
	return b.String()
}
