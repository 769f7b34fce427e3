package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A parsed value is nil (null), bool, string, int64, float64 or []string.
type value any

// ValueError says that a value is wrong. Its text is that of Kafka's
// ConfigException; a broker answers it with INVALID_CONFIG.
type ValueError struct {
	Name    string // the setting
	Message string // the whole message
}

func (e *ValueError) Error() string { return e.Message }

// wrongValue words a wrong value as ConfigException does.
func wrongValue(name, shown, why string) *ValueError {
	return &ValueError{Name: name, Message: "Invalid value " + shown + " for configuration " + name + ": " + why}
}

// problem is a ValueError with a text of its own.
func problem(name, format string, args ...any) *ValueError {
	return &ValueError{Name: name, Message: fmt.Sprintf(format, args...)}
}

// parse gives the value of text for the setting (ConfigDef.parseType, then the
// row's check).
func (s Setting) parse(text string) (value, error) {
	v, err := s.parseType(text)
	if err != nil {
		return nil, err
	}
	if s.Check.test != nil {
		if err := s.Check.test(s.Name, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (s Setting) parseType(text string) (value, error) {
	trimmed := trim(text)
	switch s.Type {
	case Boolean:
		if strings.EqualFold(trimmed, "true") {
			return true, nil
		}
		if strings.EqualFold(trimmed, "false") {
			return false, nil
		}
		return nil, wrongValue(s.Name, text, "Expected value to be either true or false")
	case Int, Short, Long:
		n, err := strconv.ParseInt(trimmed, 10, s.Type.bits())
		if err != nil {
			return nil, wrongValue(s.Name, text, "Not a number of type "+s.Type.String())
		}
		return n, nil
	case Double:
		f, err := parseJavaDouble(trimmed)
		if err != nil {
			return nil, wrongValue(s.Name, text, "Not a number of type DOUBLE")
		}
		return f, nil
	case List:
		return parseList(trimmed, s.Check.distinct), nil
	default:
		return trimmed, nil
	}
}

// bits is the width of a number type.
func (t Type) bits() int {
	switch t {
	case Short:
		return 16
	case Int:
		return 32
	}
	return 64
}

// trim cuts what String.trim of Java cuts: everything up to U+0020.
func trim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// parseList splits at commas and drops the white space around them. A distinct
// list keeps the first of equal elements.
func parseList(trimmed string, distinct bool) []string {
	list := []string{}
	if trimmed == "" {
		return list
	}
	for e := range strings.SplitSeq(trimmed, ",") {
		e = strings.TrimFunc(e, isJavaSpace)
		if distinct && slices.Contains(list, e) {
			continue
		}
		list = append(list, e)
	}
	return list
}

// isJavaSpace is \s of Java's regular expressions.
func isJavaSpace(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' }

// parseJavaDouble reads what Double.parseDouble reads: no underscores, "NaN"
// and "Infinity" in exactly this spelling, an optional suffix f, F, d or D, and
// infinity for what is too large.
func parseJavaDouble(s string) (float64, error) {
	word := strings.TrimLeft(s, "+-")
	named := word == "NaN" || word == "Infinity"
	if !named && strings.ContainsAny(strings.ToLower(word), "_in") { // Go's own spellings
		return 0, strconv.ErrSyntax
	}
	if n := len(s); !named && n > 1 && strings.ContainsRune("fFdD", rune(s[n-1])) {
		if !isHex(word) || strings.ContainsAny(word, "pP") { // in hexadecimal digits f and d are digits
			s = s[:n-1]
		}
	}
	f, err := strconv.ParseFloat(strings.Replace(s, "NaN", "nan", 1), 64)
	if errors.Is(err, strconv.ErrRange) {
		return f, nil // ParseFloat gives infinity
	}
	if err != nil && (s == "+NaN" || s == "-NaN") {
		return math.NaN(), nil
	}
	return f, err
}

func isHex(s string) bool { return strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") }

// format gives a value as text (ConfigDef.convertToString). ok is false for null.
func format(v value) (text string, ok bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return formatJavaDouble(v), true
	case []string:
		return strings.Join(v, ","), true
	case string:
		return v, true
	}
	panic(fmt.Sprintf("config: a value of type %T has no text", v))
}

// formatJavaDouble writes a number as Double.toString does: 0.5, 1.0, 1.0E-4,
// 1.2345678E7.
func formatJavaDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	const plainFrom, plainTo = 1e-3, 1e7
	if a := math.Abs(f); a == 0 || a >= plainFrom && a < plainTo {
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, err := strconv.Atoi(exponent)
	if err != nil {
		panic("config: exponent of " + mantissa + "e" + exponent)
	}
	return mantissa + "E" + strconv.Itoa(n)
}
