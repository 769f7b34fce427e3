package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rotpeter/rotpeter/broker"
	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/internal/vfs"
)

// stopGrace bounds how long busy requests may take after SIGTERM.
const stopGrace = 30 * time.Second

// serve runs a broker until ctx ends or the broker fails.
func serve(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	f, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(stderr, "rotpeter:", err)
		return exitUsage
	}
	c, err := load(f, environ)
	if err != nil {
		fmt.Fprintf(stderr, "rotpeter: the configuration is wrong:\n%v\n", err)
		return exitUsage
	}
	log := logger(c.Config, stderr)
	if err := serveConfig(ctx, c, log, stdout); err != nil {
		log.Error("the broker ended", "err", err)
		return exitError
	}
	return exitOK
}

func serveConfig(ctx context.Context, c *settings, log *slog.Logger, stdout io.Writer) error {
	dir, dirs, remove, err := dataDirs(c)
	if err != nil {
		return err
	}
	defer remove()
	for _, w := range c.Warnings() {
		log.Warn(w)
	}
	for _, w := range c.GivenWithoutEffect() {
		log.Info("a setting has no effect here", "setting", w)
	}
	limit, err := memoryLimit(c.Config, goLimit(), os.DirFS("/"))
	if err != nil {
		return err
	}
	limit.apply(log)
	o := broker.Options{
		Config: c.Config, MemoryMax: limit.max, FS: vfs.OS(), Dir: dir, LogDirs: dirs, OpenFiles: openFiles(), Log: log, Version: version,
		NewID: func() (id [16]byte) {
			rand.Read(id[:])
			id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a UUID of version 4, as Kafka's
			return id
		},
		Random: func() int32 {
			var b [4]byte
			rand.Read(b[:])
			return int32(binary.BigEndian.Uint32(b[:]))
		},
	}
	if err := listen(c.Config, &o); err != nil {
		return err
	}
	b, err := broker.Start(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "rotpeter ready kafka=%s http=%s data=%s\n", o.Listeners[0].Net.Addr(), orNone(b.HTTPAddr()), strings.Join(dirs, ","))
	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case <-b.Failed():
		failure = b.Err()
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	return errors.Join(failure, b.Close(stopping))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// dataDirs finds the directory of the metadata log and those of partitions; --dev
// makes one that is removed at the end.
func dataDirs(c *settings) (metadata string, dirs []string, remove func(), err error) {
	if c.temporary {
		dir, err := os.MkdirTemp("", "rotpeter-")
		if err != nil {
			return "", nil, nil, fmt.Errorf("make a temporary data directory: %w", err)
		}
		return dir, []string{dir}, func() { os.RemoveAll(dir) }, nil
	}
	for _, name := range c.LogDirs() {
		dir, err := filepath.Abs(name)
		if err != nil {
			return "", nil, nil, err
		}
		dirs = append(dirs, dir)
	}
	metadata, err = filepath.Abs(c.MetadataLogDir())
	return metadata, dirs, func() {}, err
}

// openFiles is how many files of segments may be open: a part of the descriptors that the process may have (Go has raised the
// limit as far as it goes), the rest is for connections. Readers all over a long log open files again and again when there are too few.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return shareOf(limit.Cur)
}

// shareOf is a quarter of the descriptors: no less than what is usual, no more than what costs little memory.
func shareOf(descriptors uint64) int {
	const usual, most = 1024, 16384
	return int(min(max(descriptors/4, usual), most))
}

// listen opens the sockets that the configuration names.
func listen(c *config.Config, o *broker.Options) error {
	for _, l := range c.Listeners() {
		if l.Controller {
			continue // the controller is in this process; nobody else talks to it
		}
		nl, err := net.Listen("tcp", net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port))))
		if err != nil {
			return errors.Join(fmt.Errorf("listener %s: %w", l.Name, err), closeAll(o))
		}
		o.Listeners = append(o.Listeners, broker.Listener{Name: l.Name, Net: nl, Host: advertisedHost(l), Port: int32(l.AdvertisedPort)})
	}
	if addr := c.Text("rotpeter.http.listener"); addr != "" {
		nl, err := net.Listen("tcp", addr)
		if err != nil {
			return errors.Join(fmt.Errorf("rotpeter.http.listener: %w", err), closeAll(o))
		}
		o.HTTP = nl
	}
	return nil
}

// advertisedHost is what clients are told: what the user said, else this
// machine's name when the listener is open to all interfaces, as Kafka does.
func advertisedHost(l config.ListenerConfig) string {
	if l.AdvertisedHost != "" {
		return l.AdvertisedHost
	}
	if l.Host != "" {
		return l.Host
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "localhost"
}

func closeAll(o *broker.Options) error {
	var all error
	for _, l := range o.Listeners {
		all = errors.Join(all, l.Net.Close())
	}
	return all
}

// logger writes the broker's own lines to standard error, as text or JSON.
func logger(c *config.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Text("rotpeter.log.level"))); err != nil {
		level = slog.LevelInfo // the table allows no value that does not parse
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Text("rotpeter.log.format") == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
