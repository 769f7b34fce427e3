package metadata

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// MetaProperties is what the file meta.properties of a log directory says.
type MetaProperties struct {
	ClusterID   string
	NodeID      int32
	DirectoryID [16]byte // zero when the file has none (before Kafka 3.7)
}

// metaPropertiesVersion is the version of KRaft clusters; 0 was that of ZooKeeper.
const metaPropertiesVersion = "1"

// maxMetaPropertiesBytes bounds what is parsed: the file has four short lines.
const maxMetaPropertiesBytes = 64 << 10

// Format returns the bytes of the file as Kafka writes them (java.util.Properties,
// in the order of its keys). now is shown in a comment.
func (p MetaProperties) Format(now time.Time) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "#\n#%s\n", now.UTC().Format("Mon Jan 02 15:04:05 MST 2006"))
	fmt.Fprintf(&b, "node.id=%d\n", p.NodeID)
	if p.DirectoryID != [16]byte{} {
		fmt.Fprintf(&b, "directory.id=%s\n", UUIDString(p.DirectoryID))
	}
	fmt.Fprintf(&b, "version=%s\n", metaPropertiesVersion)
	fmt.Fprintf(&b, "cluster.id=%s\n", escapeProperty(p.ClusterID))
	return []byte(b.String())
}

// ParseMetaProperties reads the file. It is an error if it is not of version 1, if
// cluster.id or node.id is missing, or if a value does not make sense. Unknown
// keys are ignored.
func ParseMetaProperties(b []byte) (MetaProperties, error) {
	if len(b) > maxMetaPropertiesBytes {
		return MetaProperties{}, fmt.Errorf("meta.properties has %d bytes, at most %d are read", len(b), maxMetaPropertiesBytes)
	}
	m := parseProperties(string(b))
	if v := strings.TrimSpace(m["version"]); v != metaPropertiesVersion {
		return MetaProperties{}, fmt.Errorf("meta.properties: version %q, want %s (0 or none is a directory of a ZooKeeper cluster)", v, metaPropertiesVersion)
	}
	p := MetaProperties{ClusterID: m["cluster.id"]}
	if p.ClusterID == "" {
		return MetaProperties{}, errors.New("meta.properties: cluster.id was not found")
	}
	node, ok := m["node.id"]
	if !ok {
		return MetaProperties{}, errors.New("meta.properties: node.id was not found")
	}
	n, err := strconv.ParseInt(node, 10, 32)
	if err != nil || n < 0 {
		return MetaProperties{}, fmt.Errorf("meta.properties: node.id %q is not a number from 0 on", node)
	}
	p.NodeID = int32(n)
	if dir, ok := m["directory.id"]; ok {
		if p.DirectoryID, err = ParseUUID(dir); err != nil {
			return MetaProperties{}, fmt.Errorf("meta.properties: directory.id: %w", err)
		}
	}
	return p, nil
}

// escapeProperty writes a value as java.util.Properties.store does, for the
// printable ASCII that cluster ids are made of.
func escapeProperty(s string) string {
	var b strings.Builder
	for i, c := range s {
		switch {
		case c == '\\' || c == '=' || c == ':' || c == '#' || c == '!' || c == ' ' && i == 0:
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c > '~':
			for _, u := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(&b, "\\u%04X", u)
			}
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// parseProperties reads the format of java.util.Properties: "key=value", "key:
// value" or "key value", comments with # and !, backslash escapes, and lines that
// go on after a backslash at the end.
func parseProperties(s string) map[string]string {
	m := map[string]string{}
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for endsInBackslash(line) {
			line = line[:len(line)-1]
			if i+1 == len(lines) {
				break
			}
			i++
			line += strings.TrimLeft(lines[i], " \t\f")
		}
		key, value := splitProperty(line)
		m[unescapeProperty(key)] = unescapeProperty(value)
	}
	return m
}

// endsInBackslash reports an odd number of backslashes at the end.
func endsInBackslash(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// splitProperty cuts a line at its first unescaped "=", ":" or blank.
func splitProperty(line string) (key, value string) {
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++
		case '=', ':':
			return line[:i], strings.TrimLeft(line[i+1:], " \t\f")
		case ' ', '\t', '\f':
			rest := strings.TrimLeft(line[i:], " \t\f")
			if rest != "" && (rest[0] == '=' || rest[0] == ':') {
				rest = strings.TrimLeft(rest[1:], " \t\f")
			}
			return line[:i], rest
		}
	}
	return line, ""
}

func unescapeProperty(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			if n, err := strconv.ParseUint(s[i+1:min(i+5, len(s))], 16, 16); err == nil {
				b.WriteRune(rune(n))
			}
			i = min(i+4, len(s)-1)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
