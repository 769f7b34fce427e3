package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// together is how many clients run their checks at the same time.
const together = 3

// checkWithin is how long one check of one client may take.
const checkWithin = 90 * time.Second

// connect installs what is needed and answers the clients of a broker; a
// client that cannot be had is there with the reason.
func (b *bench) connect(bootstrap string) []client {
	var (
		wg                                        sync.WaitGroup
		python, node, franz                       string
		kcatErr, javaErr, pyErr, nodeErr, goError error
	)
	wg.Go(func() { kcatErr = b.cache.command("kcat", "kcat") })
	wg.Go(func() { b.java, javaErr = b.cache.java() })
	wg.Go(func() { python, pyErr = b.cache.python() })
	wg.Go(func() { node, nodeErr = b.cache.node() })
	wg.Go(func() { franz, goError = b.cache.franz(b.work) })
	wg.Wait()
	script := func(program, path string) *driver {
		return &driver{argv: []string{program, path, bootstrap}, log: b.log}
	}
	missing := func(err error) string {
		if err != nil {
			return strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		return ""
	}
	java := func(name string, impl any) client { return client{name, impl, missing(javaErr)} }
	clients := filepath.Join(b.source, "clients", "python")
	return []client{
		{"kcat", &kcat{bootstrap: bootstrap, log: b.log}, missing(kcatErr)},
		{"franz-go", feedDriver{&driver{argv: []string{franz, bootstrap}, log: b.log}}, missing(goError)},
		{"confluent-kafka", drainDriver{script(python, filepath.Join(clients, "confluent_client.py"))}, missing(pyErr)},
		{"kafka-python", script(python, filepath.Join(clients, "kafka_python_client.py")), missing(pyErr)},
		{"kafkajs", drainDriver{script("node", filepath.Join(node, "client.js"))}, missing(nodeErr)},
		java("console-producer", kafkaConsoleProducer{b.java, bootstrap}),
		java("console-consumer", kafkaConsoleConsumer{b.java, bootstrap}),
		java("topics", kafkaTopics{b.java, bootstrap}),
		java("consumer-groups", kafkaConsumerGroups{b.java, bootstrap}),
		java("get-offsets", kafkaGetOffsets{b.java, bootstrap}),
		java("api-versions", kafkaAPIVersions{b.java, bootstrap}),
	}
}

// find answers a client by its name.
func (b *bench) find(name string) client {
	for _, c := range b.clients {
		if c.name == name {
			return c
		}
	}
	return client{name: name, missing: "no such client"}
}

// closeClients ends the drivers.
func (b *bench) closeClients() error {
	var errs []error
	for _, c := range b.clients {
		if closer, ok := c.impl.(io.Closer); ok {
			errs = append(errs, closer.Close())
		}
	}
	b.clients = nil
	return errors.Join(errs...)
}

// newTarget answers a broker of the kind under test with a fresh data directory
// and settings, each NAME=VALUE, beside those of every suite.
func (b *bench) newTarget(name string, settings ...string) (*target, error) {
	dir := filepath.Join(b.work, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if b.target == "kafka" {
		java, err := b.cache.java()
		if err != nil {
			return nil, err
		}
		return newKafka(java, dir, b.log, settings), nil
	}
	if _, err := os.Stat(b.bin); err != nil {
		return nil, fmt.Errorf("build it first (make build): %w", err)
	}
	return newRotpeter(b.bin, filepath.Join(dir, "data"), b.log, settings), nil
}

// clientChecks runs the table of clients.
func (b *bench) clientChecks(ctx context.Context) error {
	return b.withBroker(ctx, "clients", func(t *target, ref *reference) error {
		turns := make(chan struct{}, together)
		var wg sync.WaitGroup
		for _, c := range b.clients {
			wg.Go(func() {
				turns <- struct{}{}
				defer func() { <-turns }()
				for _, k := range checks() {
					if b.wants("clients", c.name, k.name) && ctx.Err() == nil {
						b.report.add(b.checkOne(ctx, ref, c, k))
					}
				}
			})
		}
		wg.Wait()
		if !t.Alive() {
			return errors.New("the broker ended")
		}
		return nil
	})
}

func (b *bench) checkOne(ctx context.Context, ref *reference, c client, k check) result {
	res := result{suite: "clients", client: c.name, check: k.name}
	if !k.can(c.impl) {
		return res
	}
	if c.missing != "" {
		res.outcome, res.reason = notRun, c.missing
		return res
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	began := time.Now()
	name := strings.ReplaceAll(k.name+"-"+c.name, " ", "-")
	err := k.run(ctx, ref, c, name)
	res.took = time.Since(began)
	res.outcome = passed
	if err != nil {
		res.outcome, res.reason = failed, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return res
}

// withBroker runs f with a broker of its own, the clients connected to it and
// the reference; afterwards the broker stops cleanly and leaves its data.
func (b *bench) withBroker(ctx context.Context, name string, f func(*target, *reference) error) (err error) {
	t, err := b.newTarget(name)
	if err != nil {
		return err
	}
	var proxy *recorder
	if b.record != "" {
		if proxy, err = newRecorder(b.record); err != nil {
			return err
		}
		t.advertise = proxy.addr()
	}
	if err := t.Start(); err != nil {
		return err
	}
	bootstrap := t.bootstrap
	if proxy != nil {
		bootstrap = proxy.addr()
		go proxy.serve(t.bootstrap)
		defer func() { err = errors.Join(err, proxy.Close()) }()
	}
	defer func() {
		if t.cmd != nil {
			t.Kill()
		}
	}()
	b.clients = b.connect(bootstrap)
	b.versions(ctx)
	ref, err := newReference(t.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	if err := f(t, ref); err != nil {
		return errors.Join(err, b.closeClients())
	}
	if err := b.closeClients(); err != nil {
		return err
	}
	ref.close()
	began := time.Now()
	err = t.Stop()
	b.report.note("broker", name, "stops cleanly on SIGTERM", time.Since(began), "", err)
	b.dirs = append(b.dirs, t.data)
	return nil
}

// bareBroker runs f with a broker of its own that has settings, and the reference: withBroker
// without the clients of the table.
func (b *bench) bareBroker(ctx context.Context, name string, settings []string, f func(*target, *reference) error) (err error) {
	t, err := b.newTarget(name, settings...)
	if err != nil {
		return err
	}
	if err := t.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Stop()) }()
	ref, err := newReference(t.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	if err := f(t, ref); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// versions writes down which clients these are.
func (b *bench) versions(ctx context.Context) {
	for _, c := range b.clients {
		if v, ok := c.impl.(versionTeller); ok && c.missing == "" {
			version, err := v.Version(ctx)
			fmt.Fprintln(b.log, "version of", c.name, version, err)
		}
	}
}
