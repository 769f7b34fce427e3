package config

import (
	"fmt"
	"strings"
)

// Markdown writes docs/CONFIG.md from the table.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Settings

Made by ` + "`config.Markdown`" + ` from the table in config/; do not edit. ` + "`make golden`" + ` writes it again.

Every setting of Apache Kafka 4.3 is known. Values come, the strongest first, from dynamic settings of the broker, dynamic
settings of the cluster, ` + "`--set name=value`" + `, the environment (` + "`KAFKA_NAME_OF_SETTING`" + `: _ stands for a dot, __ for _,
___ for -), the file given with ` + "`--config`" + `, and the default. An unknown name or a wrong value stops the start.
"change": read-only settings are read at start, per-broker and cluster-wide ones can be changed at run time in Kafka.

`)
	writeCounts(&b)
	writePreset(&b)
	writeTable(&b, "Settings of Rotpeter alone", Broker, func(s Setting) bool { return isOurs(s) })
	writeTable(&b, "Topics", Topic, func(s Setting) bool { return !s.Internal })
	writeTable(&b, "Broker", Broker, func(s Setting) bool { return !isOurs(s) && !s.Internal })
	writeTable(&b, "Groups", Group, func(Setting) bool { return true })
	writeTable(&b, "Client metrics subscriptions", ClientMetrics, func(Setting) bool { return true })
	writeTable(&b, "Internal settings", Broker, func(s Setting) bool { return s.Internal })
	writeMemory(&b)
	writeForeign(&b)
	return b.String()
}

func isOurs(s Setting) bool { return strings.HasPrefix(s.Name, "rotpeter.") }

func writeCounts(b *strings.Builder) {
	counts := map[EffectKind]int{}
	for _, s := range table.rows {
		counts[s.Effect.Kind]++
	}
	fmt.Fprintf(b, "Of %d settings %d work, %d work partly, %d are accepted without effect and %d are refused when they are set.\n\n",
		len(table.rows), counts[Works], counts[Partly], counts[Ignored], counts[Refused])
}

func writePreset(b *strings.Builder) {
	b.WriteString("## Where a single node differs from Kafka's defaults\n\nUnless you set them:\n\n```properties\n")
	for _, p := range Preset().Pairs {
		fmt.Fprintf(b, "%s=%s\n", p.Name, p.Value)
	}
	b.WriteString("```\n\n")
}

func writeTable(b *strings.Builder, title string, scope Scope, in func(Setting) bool) {
	change, synonyms := "", ""
	switch scope {
	case Broker:
		change = " change |"
	case Topic, Group:
		synonyms = " broker's default |"
	}
	fmt.Fprintf(b, "## %s\n\n| setting | type | default | valid |%s%s effect here | meaning |\n| --- | --- | --- | --- |%s%s --- | --- |\n",
		title, change, synonyms, dashes(change), dashes(synonyms))
	for _, s := range rowsOf(scope) {
		if !in(s) {
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |", s.Name, strings.ToLower(s.Type.String()), shownDefault(s), cell(s.Check.Text))
		if change != "" {
			fmt.Fprintf(b, " %s |", s.Mode)
		}
		if synonyms != "" {
			fmt.Fprintf(b, " %s |", strings.Join(s.Synonyms, ", "))
		}
		fmt.Fprintf(b, " %s | %s |\n", cell(s.Effect.String()), cell(s.Doc))
	}
	b.WriteString("\n")
}

func dashes(column string) string {
	if column == "" {
		return ""
	}
	return " --- |"
}

func shownDefault(s Setting) string {
	text, ok := s.defaultText()
	switch {
	case s.Required:
		return "see above"
	case !ok:
		return "null"
	case text == "":
		return `""`
	}
	return cell(text)
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func writeForeign(b *strings.Builder) {
	b.WriteString("## Names of other servers and older versions\n\nAccepted with a warning, without effect:\n\n| name | reason |\n| --- | --- |\n")
	for _, f := range foreignNames {
		name := f.name
		if f.prefix {
			name += "*"
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, f.why)
	}
}
