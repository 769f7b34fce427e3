package config

import (
	"math"
	"testing"
)

func TestJavaDoubles(t *testing.T) {
	for text, want := range map[string]string{
		"1": "1.0", "0.5": "0.5", "-0.0": "-0.0", "1e-3": "0.001", "0.0001": "1.0E-4", "12345678": "1.2345678E7", "9999999": "9999999.0", "1e7": "1.0E7",
		"1.7976931348623157E308": "1.7976931348623157E308", "1e400": "Infinity", "-1e400": "-Infinity", "NaN": "NaN", "Infinity": "Infinity", "-Infinity": "-Infinity",
		"0.5f": "0.5", "2D": "2.0", "0x1p-1": "0.5", "0x1.8p1": "3.0", ".5": "0.5", "5.": "5.0", "+3": "3.0",
	} {
		f, err := parseJavaDouble(text)
		if err != nil || formatJavaDouble(f) != want {
			t.Errorf("%q: got %s, %v, want %s", text, formatJavaDouble(f), err, want)
		}
	}
	for _, text := range []string{"", "x", "nan", "inf", "infinity", "1_0", "0x1", "1ff", "0x1f", "f", "--1", "0x_1p1", "1 2", "InfinityInfinity"} {
		if f, err := parseJavaDouble(text); err == nil {
			t.Errorf("%q: got %g", text, f)
		}
	}
	if f, err := parseJavaDouble("-NaN"); err != nil || !math.IsNaN(f) {
		t.Errorf("-NaN: %g, %v", f, err)
	}
}

// Parsing a value of any text ends in a value or in an error, and a value can
// be written and read back as the same text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "1", "true", "a,b,,c", "1e400", "0x1p-1f", "by_duration:PT1H", "1@h:9", "*", "0:1,2:3", "[::1]:9", "PnD", "-0", "NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range Table() {
			v, err := s.parse(text)
			if err != nil {
				continue
			}
			written, ok := format(v)
			if !ok {
				t.Fatalf("%s=%q: no text", s.Name, text)
			}
			again, err := s.parse(written)
			if err != nil {
				t.Fatalf("%s=%q: written %q: %v", s.Name, text, written, err)
			}
			if twice, _ := format(again); twice != written {
				t.Errorf("%s=%q: %q, then %q", s.Name, text, written, twice)
			}
		}
	})
}
