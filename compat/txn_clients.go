package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// txnClient is a client that consumes, transforms and produces in transactions:
// a program with two modes, whose arguments follow argv.
//
//	transform IN OUT GROUP ID SEED HOLD
//
// It reads IN as a member of GROUP and writes each record, as it is, to the same
// partition of OUT, some 40 in a transaction of the transactional id ID with the
// offsets behind them. About one transaction in five it aborts (by SEED), and
// goes back to what the group committed. It ends when its standard input does.
// After each transaction it prints a line, "commit N" or "abort N". In the
// transaction number HOLD (0 = in none) it prints "holding" when the broker has
// the records, and does no more.
//
//	read TOPIC PARTITIONS
//
// It prints a line "read_committed PARTITION OFFSET VALUE" of each record up to
// the one with the value "end" in each partition, then all again as "read_uncommitted".
//
// Some have a third mode, late: see txn_delayed.go.
type txnClient struct {
	name    string
	argv    []string // $broker stands for the address of the broker
	more    []string // further arguments of transform
	members int      // how many processes are in its group
	reader  string   // client that reads what it wrote
	missing string   // why there is none here, empty if there is
}

// command is a process in a mode.
func (c txnClient) command(bootstrap string, mode ...string) *exec.Cmd {
	var argv []string
	for _, a := range c.argv {
		argv = append(argv, strings.ReplaceAll(a, "$broker", bootstrap))
	}
	argv = append(argv, mode...)
	if mode[0] == "transform" {
		argv = append(argv, c.more...)
	}
	return exec.Command(argv[0], argv[1:]...)
}

// txnClients installs and builds the clients. A group has two processes where the
// client sends its generation along with offsets (KIP-447), else a member that was
// thought dead could commit.
func (b *bench) txnClients() []txnClient {
	var (
		wg                                          sync.WaitGroup
		java, old                                   *javaClasses
		python, node, franz                         string
		javaErr, oldErr, pyErr, nodeErr, franzError error
	)
	wg.Go(func() {
		if java, javaErr = b.cache.javaClasses(); javaErr == nil {
			old, oldErr = b.cache.oldJava(java)
		}
	})
	wg.Go(func() { python, pyErr = b.cache.python() })
	wg.Go(func() { node, nodeErr = b.cache.node() })
	wg.Go(func() { franz, franzError = b.cache.franz(b.work) })
	wg.Wait()
	b.classes = java
	missing := func(errs ...error) string {
		for _, err := range errs {
			if err != nil {
				return strings.ReplaceAll(err.Error(), "\n", "; ")
			}
		}
		return ""
	}
	scripts := filepath.Join(b.source, "clients", "python")
	class := func(j *javaClasses) []string {
		if j == nil {
			return nil
		}
		return append(j.command("Transform", "-Xmx256m").Args, "$broker")
	}
	return []txnClient{
		{"java", class(java), []string{"consumer"}, 2, "confluent-kafka", missing(javaErr)},
		{"java 3.9", class(old), []string{"classic"}, 1, "franz-go", missing(javaErr, oldErr)},
		{"franz-go", []string{franz, "$broker"}, nil, 2, "java", missing(franzError)},
		{"confluent-kafka", []string{python, filepath.Join(scripts, "confluent_transform.py"), "$broker"}, nil, 2, "aiokafka", missing(pyErr)},
		{"aiokafka", []string{python, filepath.Join(scripts, "aiokafka_transform.py"), "$broker"}, nil, 1, "kafkajs", missing(pyErr)},
		{"kafkajs", []string{"node", filepath.Join(node, "transform.js"), "$broker"}, nil, 1, "java 3.9", missing(nodeErr)},
	}
}
