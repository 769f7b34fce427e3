package config

import (
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Check is what a value has to meet beyond its type. The zero Check accepts
// everything.
type Check struct {
	// Text says what is valid, for the documentation.
	Text string

	// distinct lists drop equal elements before they are tested.
	distinct bool
	test     func(name string, v value) error
}

func atLeast(low float64) Check                 { return within(low, math.Inf(1)) }
func between(low, high float64) Check           { return within(low, high) }
func number(f float64) string                   { return strconv.FormatFloat(f, 'f', -1, 64) }
func shown(v value) string                      { text, _ := format(v); return text }
func either(values []string) string             { return strings.Join(values, ", ") }
func wrong(n string, v value, why string) error { return wrongValue(n, shown(v), why) }

// within is ConfigDef.Range. NaN lies in every range, as it does for Kafka.
func within(low, high float64) Check {
	text := "at least " + number(low)
	if !math.IsInf(high, 1) {
		text = number(low) + " to " + number(high)
	}
	return Check{Text: text, test: func(name string, v value) error {
		var f float64
		switch v := v.(type) {
		case int64:
			f = float64(v)
		case float64:
			f = v
		}
		if f < low {
			return wrong(name, v, "Value must be at least "+number(low))
		}
		if f > high {
			return wrong(name, v, "Value must be no more than "+number(high))
		}
		return nil
	}}
}

// gzipLevel is CompressionType.GZIP.levelValidator.
func gzipLevel() Check {
	return Check{Text: "1 to 9, or -1", test: func(name string, v value) error {
		if n := v.(int64); n != -1 && (n < 1 || n > 9) {
			return wrong(name, v, "Value must be between 1 and 9 or equal to -1")
		}
		return nil
	}}
}

// oneOf is ConfigDef.ValidString.
func oneOf(values ...string) Check {
	return Check{Text: either(values), test: func(name string, v value) error {
		if !slices.Contains(values, v.(string)) {
			return wrong(name, v, "String must be one of: "+either(values))
		}
		return nil
	}}
}

// oneOfFold is ConfigDef.CaseInsensitiveValidString.
func oneOfFold(values ...string) Check {
	return Check{Text: either(values) + ", in any case", test: func(name string, v value) error {
		if !slices.ContainsFunc(values, func(s string) bool { return strings.EqualFold(s, v.(string)) }) {
			return wrong(name, v, "String must be one of (case insensitive): "+either(values))
		}
		return nil
	}}
}

// nonEmpty is ConfigDef.NonEmptyString.
func nonEmpty() Check {
	return Check{Text: "not empty", test: func(name string, v value) error {
		if v.(string) == "" {
			return wrong(name, v, "String must be non-empty")
		}
		return nil
	}}
}

func anyList() Check                        { return list(true, nil) }
func nonEmptyList() Check                   { return list(false, nil) }
func listOf(values ...string) Check         { return list(true, values) }
func nonEmptyListOf(values ...string) Check { return list(false, values) }

// list is ConfigDef.ValidList. No values: any element but the empty one.
func list(emptyAllowed bool, values []string) Check {
	text := either(values)
	if !emptyAllowed {
		text = strings.TrimPrefix(text+", not empty", ", ")
	}
	return Check{Text: text, distinct: true, test: func(name string, v value) error {
		elements := v.([]string)
		if len(elements) == 0 && !emptyAllowed {
			include := "any non-empty value"
			if len(values) > 0 {
				include = "[" + either(values) + "]"
			}
			return &ValueError{name, "Configuration '" + name + "' must not be empty. Valid values include: " + include}
		}
		for _, e := range elements {
			if e == "" {
				return &ValueError{name, "Configuration '" + name + "' values must not be empty."}
			}
			if len(values) > 0 && !slices.Contains(values, e) {
				return wrongValue(name, e, "String must be one of: "+either(values))
			}
		}
		return nil
	}}
}

var throttledReplicaForm = regexp.MustCompile(`^[0-9]+:[0-9]+$`)

// throttledReplicas is ThrottledReplicaListValidator.
func throttledReplicas() Check {
	return Check{Text: "*, or partition:broker pairs", test: func(name string, v value) error {
		elements := v.([]string)
		if len(elements) == 0 || len(elements) == 1 && elements[0] == "*" {
			return nil
		}
		for _, e := range elements {
			if !throttledReplicaForm.MatchString(e) {
				return wrongValue(name, "["+strings.Join(elements, ", ")+"]", name+
					" must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
			}
		}
		return nil
	}}
}

// isoDuration is what java.time.Duration.parse reads: days, hours, minutes and
// seconds, each with an optional sign, at least one of them.
var isoDuration = regexp.MustCompile(`^(?i)([+-])?P(?:([+-]?[0-9]+)D)?(T(?:([+-]?[0-9]+)H)?(?:([+-]?[0-9]+)M)?(?:([+-]?[0-9]+)(?:[.,]([0-9]{0,9}))?S)?)?$`)

// offsetReset is ShareGroupAutoOffsetResetStrategy.Validator (KIP-932, KIP-1106).
func offsetReset() Check {
	return Check{Text: "latest, earliest, by_duration:PnDTnHnMn.nS", test: func(name string, v value) error {
		s := v.(string)
		after, byDuration := strings.CutPrefix(s, "by_duration:")
		if s == "latest" || s == "earliest" || byDuration && isPositiveDuration(after) {
			return nil
		}
		return wrong(name, v, "Invalid value `"+s+"` for configuration "+name+
			". The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.")
	}}
}

// isPositiveDuration says whether s is a duration of zero or more.
func isPositiveDuration(s string) bool {
	m := isoDuration.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	sign, days, clock, parts := m[1], m[2], m[3], m[4:7]
	if strings.EqualFold(clock, "T") || days == "" && strings.Join(parts, "") == "" {
		return false
	}
	total := 0.0
	for i, part := range append([]string{days}, parts...) {
		if part == "" {
			continue
		}
		n, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return false
		}
		total += n * []float64{86400, 3600, 60, 1}[i]
	}
	return total >= 0 && sign != "-" || total <= 0 && sign == "-"
}

// quorumVoters is QuorumConfig.ControllerQuorumVotersValidator.
func quorumVoters() Check {
	return Check{Text: "id@host:port", test: func(name string, v value) error {
		_, err := parseVoters(name, v.([]string))
		return err
	}}
}

// parseVoters gives the ids of controller.quorum.voters.
func parseVoters(name string, entries []string) ([]int64, error) {
	var ids []int64
	for _, e := range entries {
		id, address, _ := strings.Cut(e, "@")
		host, port, ok := splitHostPort(address)
		if !ok || host == "" || port < 0 {
			return nil, &ValueError{name, "Invalid configuration value for " + name +
				". Each entry should be in the form `{id}@{host}:{port}`."}
		}
		n, err := strconv.ParseInt(id, 10, 32)
		if err != nil {
			return nil, &ValueError{name, "Failed to parse voter ID as an integer from " + id}
		}
		if host == "0.0.0.0" && port == 0 {
			return nil, &ValueError{name, "Host string (" + host + ") is not routeable"}
		}
		ids = append(ids, n)
	}
	return ids, nil
}

// bootstrapServers is QuorumConfig.ControllerQuorumBootstrapServersValidator.
func bootstrapServers() Check {
	return Check{Text: "host:port", test: func(name string, v value) error {
		for _, e := range v.([]string) {
			if host, _, ok := splitHostPort(e); !ok || host == "" {
				return &ValueError{name, "Failed to parse host name from " + e + " for the configuration " + name +
					`. Each entry should be in the form "{host}:{port}"`}
			}
		}
		return nil
	}}
}

// hostPort accepts host:port with a port from 0 to 65535, or nothing.
func hostPort() Check {
	return Check{Text: "host:port, or empty", test: func(name string, v value) error {
		s := v.(string)
		if s == "" {
			return nil
		}
		if _, port, ok := splitHostPort(s); !ok || port < 0 || port > maxPort {
			return wrong(name, v, "Expected host:port with a port from 0 to 65535")
		}
		return nil
	}}
}

const maxPort = 65535

// splitHostPort splits host:port; an IPv6 address stands in brackets, which
// are dropped.
func splitHostPort(s string) (host string, port int, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	port, err := strconv.Atoi(s[i+1:])
	if err != nil {
		return "", 0, false
	}
	host = s[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		inner := host[1 : len(host)-1]
		if a, err := netip.ParseAddr(inner); err != nil || !a.Is6() {
			return "", 0, false
		}
		return inner, port, true
	}
	return host, port, !strings.ContainsAny(host, " :[]")
}
