package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/rotpeter/rotpeter/config"
)

// flags are what the command line says.
type flags struct {
	data, listen, http, file string
	httpGiven                bool
	sets                     repeated
	dev                      bool
}

// repeated is a flag that may be given many times.
type repeated []string

func (r *repeated) String() string { return strings.Join(*r, " ") }

// Set adds one more value.
func (r *repeated) Set(s string) error {
	*r = append(*r, s)
	return nil
}

// parseFlags reads the command line of serve.
func parseFlags(args []string) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet("rotpeter", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.data, "data", "", "")
	set.StringVar(&f.listen, "listen", "", "")
	set.StringVar(&f.http, "http", "", "")
	set.StringVar(&f.file, "config", "", "")
	set.Var(&f.sets, "set", "")
	set.BoolVar(&f.dev, "dev", false, "")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unknown command or argument %q; rotpeter --help lists what there is", set.Arg(0))
	}
	set.Visit(func(v *flag.Flag) { f.httpGiven = f.httpGiven || v.Name == "http" })
	return f, nil
}

// load puts all layers of settings together, the weakest first.
func load(f *flags, environ []string) (*settings, error) {
	var sources []config.Source
	if f.dev {
		s, err := config.ParseOverrides("--dev", []string{"rotpeter.acks.all=cache", "group.initial.rebalance.delay.ms=0"})
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	if f.file != "" {
		text, err := os.ReadFile(f.file)
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		s, err := config.ParseProperties(f.file, text)
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	sources = append(sources, config.FromEnvironment(environ))
	sets, err := config.ParseOverrides("--set", f.sets)
	if err != nil {
		return nil, err
	}
	sources = append(sources, sets)
	for _, named := range []struct {
		flag, setting string
		given         bool
	}{
		{"--data", "log.dirs=" + f.data, f.data != ""},
		{"--listen", "listeners=PLAINTEXT://" + f.listen, f.listen != ""},
		{"--listen", "advertised.listeners=PLAINTEXT://" + advertisedFor(f.listen), opensEverywhere(f.listen)},
		{"--http", "rotpeter.http.listener=" + f.http, f.httpGiven},
	} {
		if !named.given {
			continue
		}
		s, err := config.ParseOverrides(named.flag, []string{named.setting})
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	c, err := config.Load(sources...)
	if err != nil {
		return nil, err
	}
	return &settings{Config: c, temporary: f.dev && !givesDataDir(sources)}, nil
}

// settings are all layers together.
type settings struct {
	*config.Config
	temporary bool // --dev, and nobody named a data directory
}

func givesDataDir(sources []config.Source) bool {
	for _, s := range sources {
		for _, p := range s.Pairs {
			if p.Name == "log.dirs" || p.Name == "log.dir" {
				return true
			}
		}
	}
	return false
}

// opensEverywhere says whether an address of --listen names no host, so that
// clients need to be told one.
func opensEverywhere(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

// advertisedFor is what clients are told of such an address: this machine's name.
func advertisedFor(listen string) string {
	_, port, _ := net.SplitHostPort(listen)
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
