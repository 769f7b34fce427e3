package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseProperties(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a=1\nb:2\nc 3\nd\t4\n", "a=1 b=2 c=3 d=4"},
		{"a = 1\n b  :  2\n\fc   3", "a=1 b=2 c=3"},
		{"# no\n! no\n  # no\n\na=#1!", "a=#1!"},
		{"a=1 # kept", "a=1_#_kept"},
		{"a=x,\\\n   y,\\\n\tz\nb=2", "a=x,y,z b=2"},
		{"a=x\\\n# kept", "a=x#_kept"},
		{"a=1\\\\\nb=2", `a=1\ b=2`},
		{"a=1\\", "a=1"},
		{"a\\=b=c\\:d", "a=b=c:d"},
		{"a\\ b=1", "a_b=1"},
		{`a=\t\n\r\f\q\"`, "a=\t\n\r\fq\""},
		{`a=\u00e4\u20AC`, "a=ä€"},
		{`a=\ud83d\ude00!`, "a=😀!"},
		{`a=\ud83dx`, "a=\ufffdx"},
		{"a=1\r\nb=2\rc=3", "a=1 b=2 c=3"},
		{"a", "a="},
		{"a=", "a="},
		{"=1", "=1"},
		{"a==1", "a==1"},
		{"a:=1", "a==1"},
		{"a  =  b  ", "a=b__"},
		{"a=1\na=2", "a=1 a=2"},
		{"", ""},
		{"ä=ö", "ä=ö"},
	} {
		s, err := ParseProperties("f", []byte(c.text))
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		var got []string
		for _, p := range s.Pairs {
			got = append(got, strings.ReplaceAll(p.Name+"="+p.Value, " ", "_"))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: got %q, want %q", c.text, strings.Join(got, " "), c.want)
		}
	}
}

func TestParsePropertiesSaysWhere(t *testing.T) {
	s, err := ParseProperties("server.properties", []byte("a=1\n#\nb=x\\\n y\n\nc=3"))
	if err != nil {
		t.Fatal(err)
	}
	var where []string
	for _, p := range s.Pairs {
		where = append(where, p.Where)
	}
	if want := []string{"server.properties:1", "server.properties:3", "server.properties:6"}; !slices.Equal(where, want) {
		t.Errorf("got %v, want %v", where, want)
	}
	for text, want := range map[string]string{
		"a=1\nb=\\u12x4":                      `f:2: malformed \uxxxx escape`,
		`\u1=1`:                               `f:1: malformed \uxxxx escape`,
		strings.Repeat("#", maxSourceBytes+1): "f: 1048577 bytes are more than the 1048576 a settings file may have",
	} {
		if _, err := ParseProperties("f", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

// Whatever the text, parsing ends, and what it gives can be written as
// properties and read back.
func FuzzParseProperties(f *testing.F) {
	for _, s := range []string{"a=1", "a\\\n=1", "\\u0041=\\ud83d\\ude00", "a:b c\\ d", "#\r!\r\n\\", " \f=\\", "a=\\u", "\\\\\\=\\:", "\x00\xff=\\\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseProperties("f", []byte(text))
		if err != nil {
			return
		}
		var b strings.Builder
		for _, p := range s.Pairs {
			fmt.Fprintf(&b, "%s=%s\n", escapeAll(p.Name), escapeAll(p.Value))
		}
		again, err := ParseProperties("f", []byte(b.String()))
		if err != nil {
			t.Fatalf("%q: %v", b.String(), err)
		}
		same := func(a, b Pair) bool { return a.Name == b.Name && a.Value == b.Value }
		if !slices.EqualFunc(s.Pairs, again.Pairs, same) {
			t.Errorf("%q: %q, read back %q", text, s.Pairs, again.Pairs)
		}
	})
}

func escapeAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case strings.IndexByte("\\ \t\f=:#!", c) >= 0:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func TestParseOverrides(t *testing.T) {
	s, err := ParseOverrides("--set", []string{"a=1", " b =2=3", "c="})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Pair{{"a", "1", "--set a"}, {"b", "2=3", "--set b"}, {"c", "", "--set c"}}; !slices.Equal(s.Pairs, want) {
		t.Errorf("got %v, want %v", s.Pairs, want)
	}
	for _, bad := range []string{"a", "", "=1"} {
		if _, err := ParseOverrides("--set", []string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{[]string{"KAFKA_NODE_ID=1", "PATH=/bin", "CLUSTER_ID=x", "KAFKAX=1", "KAFKA_=1"}, "node.id=1"},
		{[]string{"KAFKA_LISTENER_NAME_SASL__PLAIN_MAX_CONNECTIONS=1"}, "listener.name.sasl_plain.max.connections=1"},
		{[]string{"KAFKA_LISTENER_NAME_A___B_MAX_CONNECTIONS=1"}, "listener.name.a-b.max.connections=1"},
		{[]string{"KAFKA_A____B=1"}, "a-.b=1"},
		{[]string{"KAFKA_ROTPETER_ACKS_ALL=cache"}, "rotpeter.acks.all=cache"},
		{[]string{"KAFKA_B=2", "KAFKA_A=x=y"}, "a=x=y b=2"},
		{[]string{"KAFKA_HEAP_OPTS=-Xmx1g", "KAFKA_OPTS=a", "KAFKA_VERSION=4", "KAFKA_LOG4J_LOGGERS=a", "KAFKA_JMX_HOSTNAME=h", "KAFKA_HOME=/opt"}, ""},
		{[]string{"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://h:9092,B://i:9093"},
			"advertised.listeners=PLAINTEXT://h:9092,B://i:9093 listeners=PLAINTEXT://0.0.0.0:9092,B://0.0.0.0:9093"},
		{[]string{"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://h:9092", "KAFKA_LISTENERS=PLAINTEXT://:9092"},
			"advertised.listeners=PLAINTEXT://h:9092 listeners=PLAINTEXT://:9092"},
		{[]string{"KAFKA_ADVERTISED_LISTENERS=A://h:1", "KAFKA_LISTENERS="}, "advertised.listeners=A://h:1 listeners=A://0.0.0.0:1"},
	} {
		var got []string
		for _, p := range FromEnvironment(c.environ).Pairs {
			got = append(got, p.Name+"="+p.Value)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v: got %v, want %s", c.environ, got, c.want)
		}
	}
}

// A Service named kafka must not stop a pod that also runs Rotpeter.
func TestKubernetesServiceLinksAreLeftOut(t *testing.T) {
	s := FromEnvironment([]string{
		"KAFKA_SERVICE_HOST=10.0.0.1", "KAFKA_SERVICE_PORT=9092", "KAFKA_SERVICE_PORT_CLIENT=9092", "KAFKA_PORT=tcp://10.0.0.1:9092",
		"KAFKA_PORT_9092_TCP=tcp://10.0.0.1:9092", "KAFKA_PORT_9092_TCP_ADDR=10.0.0.1", "KAFKA_NUM_PARTITIONS=3",
	})
	if len(s.Pairs) != 1 || s.Pairs[0].Name != "num.partitions" || len(s.Warnings) != 6 {
		t.Errorf("pairs %v, warnings %v", s.Pairs, s.Warnings)
	}
}
