package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Pair is one setting as somebody wrote it.
type Pair struct {
	Name, Value string
	Where       string // for messages: "server.properties:12", "--set", "KAFKA_NODE_ID"
}

// Source is a list of settings from one place. Of equal names the last wins.
type Source struct {
	Pairs    []Pair
	Warnings []string // about what was left out
}

// maxSourceBytes bounds a properties file; a full one of Kafka's has 10 KB.
const maxSourceBytes = 1 << 20

// ParseProperties reads text in the format of java.util.Properties: key and
// value parted by =, : or white space, # and ! comments, lines continued after
// a backslash, the escapes \t \n \r \f and \uxxxx. file names it in messages.
// The text is UTF-8, where Java reads Latin-1. A malformed \u escape, as in Java, and a text over 1 MiB are errors.
func ParseProperties(file string, text []byte) (Source, error) {
	if len(text) > maxSourceBytes {
		return Source{}, fmt.Errorf("%s: %d bytes are more than the %d a settings file may have", file, len(text), maxSourceBytes)
	}
	var s Source
	lines := splitLines(string(text))
	for i := 0; i < len(lines); {
		first := i + 1
		line := strings.TrimLeft(lines[i], propertySpace)
		i++
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for continues(line) && i < len(lines) {
			line = line[:len(line)-1] + strings.TrimLeft(lines[i], propertySpace)
			i++
		}
		if continues(line) { // a backslash at the very end is dropped, as Java drops it
			line = line[:len(line)-1]
		}
		where := fmt.Sprintf("%s:%d", file, first)
		key, val := cutProperty(line)
		name, err := unescape(key)
		if err == nil {
			val, err = unescape(val)
		}
		if err != nil {
			return Source{}, fmt.Errorf("%s: %w", where, err)
		}
		s.Pairs = append(s.Pairs, Pair{name, val, where})
	}
	return s, nil
}

const propertySpace = " \t\f"

func splitLines(text string) []string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.Split(strings.ReplaceAll(text, "\r", "\n"), "\n")
}

// continues says whether the line ends in an odd number of backslashes.
func continues(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// cutProperty splits at the first separator that no backslash precedes.
func cutProperty(line string) (key, val string) {
	end := len(line)
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
		} else if strings.IndexByte(propertySpace+"=:", line[i]) >= 0 {
			end = i
			break
		}
	}
	rest := strings.TrimLeft(line[end:], propertySpace)
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], propertySpace)
	}
	return line[:end], rest
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var out strings.Builder
	var units []uint16 // a run of \u escapes: surrogates come in pairs
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && s[i+1] == 'u' {
			unit, err := hexUnit(s[i+2:])
			if err != nil {
				return "", err
			}
			units = append(units, unit)
			i += 5
			continue
		}
		out.WriteString(utf16String(units))
		units = nil
		if s[i] == '\\' {
			i++
			if i == len(s) {
				break
			}
			out.WriteByte(escaped(s[i]))
			continue
		}
		out.WriteByte(s[i])
	}
	out.WriteString(utf16String(units))
	return out.String(), nil
}

func escaped(b byte) byte {
	if i := strings.IndexByte("tnrf", b); i >= 0 {
		return "\t\n\r\f"[i]
	}
	return b
}

// ParseOverrides reads key=value arguments of the command line.
func ParseOverrides(flag string, args []string) (Source, error) {
	var s Source
	for _, a := range args {
		name, val, ok := strings.Cut(a, "=")
		if name = trim(name); !ok || name == "" {
			return Source{}, fmt.Errorf("%s %q: expected name=value", flag, a)
		}
		s.Pairs = append(s.Pairs, Pair{name, val, flag + " " + name})
	}
	return s, nil
}

// notSettings are variables of the apache/kafka image that are not settings
// (KafkaDockerWrapper), and those that other images and tools set.
var notSettings = []string{
	"KAFKA_VERSION", "KAFKA_HEAP_OPTS", "KAFKA_LOG4J_OPTS", "KAFKA_OPTS", "KAFKA_JMX_OPTS",
	"KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_GC_LOG_OPTS", "KAFKA_LOG4J_ROOT_LOGLEVEL", "KAFKA_LOG4J_LOGGERS",
	"KAFKA_TOOLS_LOG4J_LOGLEVEL", "KAFKA_JMX_HOSTNAME",
	// not excluded by the image, and no setting either
	"KAFKA_HOME", "KAFKA_DEBUG", "KAFKA_MODE", "KAFKA_LOG4J_CMD_OPTS", "KAFKA_CLUSTER_ID",
}

// serviceLink matches what Kubernetes sets for a Service named kafka.
var serviceLink = regexp.MustCompile(`^KAFKA_(SERVICE_(HOST|PORT.*)|PORT(_[0-9]+_(TCP|UDP|SCTP).*)?)$`)

// FromEnvironment turns KAFKA_* variables, given as NAME=value, into settings
// as the apache/kafka image does: without the prefix, in lower case, ___
// becomes -, __ becomes _ and _ becomes a dot. Variables that are no settings
// are left out, service links of Kubernetes with a warning. When
// KAFKA_ADVERTISED_LISTENERS is set and KAFKA_LISTENERS is not, the listeners
// are the advertised ones on all interfaces. Pairs are sorted by variable.
func FromEnvironment(environ []string) Source {
	var s Source
	sorted := slices.Sorted(slices.Values(environ))
	for _, v := range sorted {
		variable, val, _ := strings.Cut(v, "=")
		rest, ours := strings.CutPrefix(variable, "KAFKA_")
		if !ours || rest == "" || slices.Contains(notSettings, variable) {
			continue
		}
		if serviceLink.MatchString(variable) {
			s.Warnings = append(s.Warnings, variable+" is left out: it looks like a service link of Kubernetes (enableServiceLinks: false turns them off)")
			continue
		}
		s.Pairs = append(s.Pairs, Pair{environmentName(rest), val, variable})
	}
	if advertised, ok := s.last("advertised.listeners"); ok && advertised != "" {
		if listeners, _ := s.last("listeners"); listeners == "" {
			s.Pairs = slices.DeleteFunc(s.Pairs, func(p Pair) bool { return p.Name == "listeners" })
			s.Pairs = append(s.Pairs, Pair{"listeners", advertisedHost.ReplaceAllString(advertised, "://0.0.0.0:"), "KAFKA_ADVERTISED_LISTENERS"})
		}
	}
	return s
}

// advertisedHost is the pattern with which the image's start script replaces
// the hosts.
var advertisedHost = regexp.MustCompile(`://[^:]*:`)

func environmentName(variable string) string {
	name := strings.ReplaceAll(strings.ToLower(variable), "_", ".")
	name = strings.ReplaceAll(name, "...", "-")
	return strings.ReplaceAll(name, "..", "_")
}

// last gives the value of a name that counts.
func (s Source) last(name string) (string, bool) {
	for _, p := range slices.Backward(s.Pairs) {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// hexUnit reads the four digits of a \u escape.
func hexUnit(s string) (uint16, error) {
	if len(s) >= 4 {
		if n, err := strconv.ParseUint(s[:4], 16, 16); err == nil {
			return uint16(n), nil
		}
	}
	return 0, errors.New(`malformed \uxxxx escape`)
}

func utf16String(units []uint16) string { return string(utf16.Decode(units)) }
