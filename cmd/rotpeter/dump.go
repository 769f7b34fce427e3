package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/rotpeter/rotpeter/inspect"
	"github.com/rotpeter/rotpeter/internal/vfs"
)

const dumpUsage = `Usage: rotpeter dump [--records] [--json] [--as KIND] FILE...

Prints files of a data directory, Kafka's or ours: segments (.log), indexes (.index, .timeindex, .txnindex),
producer snapshots (.snapshot), snapshots of the metadata log and bootstrap.checkpoint (.checkpoint), the
checkpoints, partition.metadata, meta.properties and quorum-state.

Lines of batches and records are those of kafka-dump-log. Records of internal topics are decoded, which their
directory's name tells. Keys and values are printed as quoted text, or as hex if they are not text; in JSON as
text, or as base64 under "keyBase64" and "valueBase64".

Exit status: 0 all was printed, 1 a file could not be read to its end, 2 the command line is wrong.

`

// dump is the subcommand dump.
func dump(_ context.Context, args []string, stdout, stderr io.Writer) int {
	debug.SetGCPercent(inspect.GCPercent)
	flags := flag.NewFlagSet("dump", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, dumpUsage); flags.PrintDefaults() }
	o := inspect.DumpOptions{FS: vfs.OS()}
	flags.BoolVar(&o.Records, "records", false, "print the records of batches, too")
	flags.BoolVar(&o.JSON, "json", false, "print one JSON object on a line")
	as := flags.String("as", "", "`KIND` of the records, whatever the directory is called: offsets, metadata, transactions, share or plain; prints records")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if *as != "" {
		kind, ok := inspect.ParseKind(*as)
		if !ok {
			fmt.Fprintf(stderr, "rotpeter dump: --as %q is none of offsets, metadata, transactions, share and plain\n", *as)
			return exitUsage
		}
		o.As, o.Records = &kind, true
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return exitUsage
	}
	code := exitOK
	for _, file := range flags.Args() {
		if flags.NArg() > 1 && !o.JSON {
			if _, err := fmt.Fprintf(stdout, "Dumping %s\n", file); err != nil {
				fmt.Fprintln(stderr, "rotpeter dump: write:", err)
				return exitError
			}
		}
		if err := inspect.Dump(stdout, o, file); err != nil {
			fmt.Fprintln(stderr, "rotpeter dump:", err)
			code = exitError
		}
	}
	return code
}
