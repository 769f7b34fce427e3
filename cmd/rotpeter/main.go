// Command rotpeter is a broker that Kafka clients and tools cannot tell from
// Apache Kafka. Without a subcommand it serves.
//
// It only gathers what the world gives it (flags, files, environment, signals),
// builds a broker from that, runs it and stops it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the Makefile.
var version = "unreleased"

// Exit codes.
const (
	exitOK    = 0
	exitError = 1 // the broker could not start, or failed
	exitUsage = 2 // the command line or the configuration is wrong
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is main without the process around it.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case "version", "--version", "-version":
			fmt.Fprintln(stdout, "rotpeter", version)
			return exitOK
		case "help", "--help", "-help", "-h":
			fmt.Fprint(stdout, usage)
			return exitOK
		case "check":
			return check(ctx, args[1:], stdout, stderr)
		case "dump":
			return dump(ctx, args[1:], stdout, stderr)
		case "bench":
			return bench(ctx, args[1:], stdout, stderr)
		case "serve":
			args = args[1:]
		}
	}
	return serve(ctx, args, environ, stdout, stderr)
}

const usage = `Rotpeter is a broker that Kafka clients and tools use unchanged.

Usage:
  rotpeter [serve] [flags]    run a broker until it is told to stop (SIGTERM, Ctrl-C)
  rotpeter check DIR...       say what is wrong with the files of data directories, Kafka's or ours; changes nothing
  rotpeter dump FILE...       print what is in segments, indexes, snapshots and checkpoints
  rotpeter bench              load a broker and print how fast it answers (--help says more)
  rotpeter version            print the version
  rotpeter --help             print this

Flags of serve:
  --data DIR          data directory (log.dirs; default ./data)
  --listen HOST:PORT  address for Kafka clients (listeners; default localhost:9092; port 0 picks a free one)
  --http HOST:PORT    address of /metrics, /healthz and /readyz (rotpeter.http.listener; default localhost:9644; "" turns it off)
  --config FILE       settings in the format of Kafka's server.properties
  --set KEY=VALUE     one setting; may be given many times
  --dev               for development: acks from the page cache, no delay before a group's first rebalance,
                      and a temporary data directory that is removed at exit (unless --data or log.dirs is given)

Settings come from the file, then KAFKA_* environment variables (as the apache/kafka image maps them), then --set,
then the other flags; the last one wins. docs/CONFIG.md lists all of them.
`
