package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// groupClient is a client that can be a member of groups.
type groupClient struct {
	name    string
	argv    []string // starts a process of members, $broker stands for the address of the broker
	missing string   // why there is none here, empty if there is
	ways    []groupWay
	static  []groupWay // ways of static members
}

// start starts a process of members.
func (c groupClient) start(log io.Writer, bootstrap string) (*groupProcess, error) {
	var argv []string
	for _, a := range c.argv {
		argv = append(argv, strings.ReplaceAll(a, "$broker", bootstrap))
	}
	return startMembers(log, exec.Command(argv[0], argv[1:]...))
}

// groupWay is a protocol of groups that a client speaks, and the assignors that it offers.
type groupWay struct {
	protocol  string
	assignors []string // by Kafka's names; with the consumer protocol the broker's own
	regex     bool     // subscribes by a regular expression that the broker knows
}

func (w groupWay) String() string {
	words := []string{w.protocol}
	if len(w.assignors) > 0 {
		words = append(words, strings.Join(w.assignors, ","))
	}
	if w.regex {
		words = append(words, "regex")
	}
	return strings.Join(words, " ")
}

// groupClients installs and builds the clients that can be members.
func (b *bench) groupClients() []groupClient {
	var (
		wg                                                sync.WaitGroup
		compiled                                          *javaClasses
		python, node, franz, other                        string
		javaErr, pythonErr, nodeErr, franzError, otherErr error
	)
	wg.Go(func() { compiled, javaErr = b.cache.javaClasses() })
	wg.Go(func() { python, pythonErr = b.cache.python() })
	wg.Go(func() { node, nodeErr = b.cache.node() })
	wg.Go(func() {
		franz, franzError = b.cache.franz(b.work)
		other, otherErr = b.cache.goMembers(b.work)
	})
	wg.Wait()
	missing := func(err error) string {
		if err != nil {
			return strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		return ""
	}
	scripts := filepath.Join(b.source, "clients", "python")
	classic := func(assignors ...string) groupWay { return groupWay{protocol: "classic", assignors: assignors} }
	cooperative := classic("cooperative-sticky")
	server, ranged := groupWay{protocol: "consumer"}, groupWay{protocol: "consumer", assignors: []string{"range"}}
	regex := groupWay{protocol: "consumer", regex: true}
	members := func(argv ...string) []string { return append(argv, "$broker", "members") }
	var java []string
	if javaErr == nil {
		b.classes = compiled
		java = members(compiled.command("Members", "-Xmx1g").Args...)
	}
	ranges, both, turns := classic("range"), classic("range", "roundrobin"), classic("roundrobin")
	return []groupClient{
		{"java", java, missing(javaErr),
			[]groupWay{classic("range", "cooperative-sticky"), cooperative, classic("sticky"), server, ranged, regex},
			[]groupWay{cooperative, server}},
		// A static member by the consumer protocol leaves with a heartbeat that does not name its instance, which a broker refuses.
		{"franz-go", members(franz), missing(franzError), []groupWay{cooperative, ranges, server, ranged}, []groupWay{cooperative}},
		{"confluent-kafka", members(python, filepath.Join(scripts, "confluent_members.py")), missing(pythonErr),
			[]groupWay{both, cooperative, server, regex}, []groupWay{both, server}},
		{"aiokafka", members(python, filepath.Join(scripts, "aiokafka_members.py")), missing(pythonErr), []groupWay{turns}, []groupWay{turns}},
		{"kafkajs", members("node", filepath.Join(node, "members.js")), missing(nodeErr), []groupWay{turns}, nil},
		{"sarama", []string{other, "$broker", "sarama", "members"}, missing(otherErr), []groupWay{ranges, cooperative}, []groupWay{ranges}},
		{"kafka-go", []string{other, "$broker", "kafka-go", "members"}, missing(otherErr), []groupWay{ranges}, nil},
	}
}

// goMembers builds the members by other clients in Go, which are a module of their own. It builds by a copy of the
// module's files, which follows when the project takes on newer versions.
func (c *cache) goMembers(dir string) (string, error) {
	bin, source := filepath.Join(dir, "gomembers"), filepath.Join(c.source, "clients", "gomembers")
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			return bin, err
		}
	}
	return bin, c.do(source, "go", "build", "-mod=mod", "-modfile="+filepath.Join(dir, "go.mod"), "-o", bin, ".")
}
