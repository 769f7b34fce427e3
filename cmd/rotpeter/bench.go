package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rotpeter/rotpeter/bench/raw"
)

const benchUsage = `Usage: rotpeter bench [flags]

Loads a broker, this one or any that speaks Kafka's protocol, with Produce and then with Fetch requests as fast as it
answers them, and prints what it answered. It makes a topic and deletes it afterwards. The requests are prebuilt: this
measures the broker, its disk and the network rather than a client.

`

// benchFlags are the flags of the subcommand bench.
type benchFlags struct {
	bootstrap, topic, acks                           string
	partitions, connections, inFlight, batch, record int
	seconds                                          float64
}

// bench is the subcommand bench.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, benchUsage); flags.PrintDefaults() }
	var o benchFlags
	flags.StringVar(&o.bootstrap, "bootstrap", "localhost:9092", "the broker, as `HOST:PORT`; it has to lead the topic, so of a cluster only one with a single broker")
	flags.StringVar(&o.topic, "topic", "rotpeter-bench", "`name` of the topic that is made and deleted; it must not be there")
	flags.IntVar(&o.partitions, "partitions", 1, "partitions, all of them in each request")
	flags.IntVar(&o.connections, "connections", 4, "connections")
	flags.IntVar(&o.inFlight, "in-flight", 5, "Produce requests on their way on each connection")
	flags.IntVar(&o.batch, "batch", 16<<10, "bytes of a batch, about")
	flags.IntVar(&o.record, "record", 1000, "bytes of a record's value")
	flags.StringVar(&o.acks, "acks", "all", "what is waited for: all or 1")
	flags.Float64Var(&o.seconds, "seconds", 5, "seconds of each load")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if err := o.check(flags.Args()); err != nil {
		fmt.Fprintln(stderr, "rotpeter bench:", err)
		return exitUsage
	}
	if err := o.run(ctx, stdout); err != nil {
		fmt.Fprintln(stderr, "rotpeter bench:", err)
		return exitError
	}
	return exitOK
}

func (o *benchFlags) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unknown argument %q", rest[0])
	case o.acks != "all" && o.acks != "1":
		return fmt.Errorf("--acks %s: want all or 1", o.acks)
	case min(o.partitions, o.connections, o.inFlight, o.record) < 1 || o.batch < o.record || o.seconds <= 0:
		return errors.New("all numbers have to be positive, and a batch at least as large as a record")
	case o.partitions*o.batch > 64<<20:
		return fmt.Errorf("a request of %d partitions with %d bytes each is larger than 64 MiB", o.partitions, o.batch)
	}
	return nil
}

func (o *benchFlags) run(ctx context.Context, stdout io.Writer) (err error) {
	if _, err := raw.Ask(ctx, o.bootstrap, raw.CreateTopic(o.topic, o.partitions)); err != nil {
		return err
	}
	defer func() {
		_, gone := raw.Ask(context.WithoutCancel(ctx), o.bootstrap, raw.DeleteTopic(o.topic))
		err = errors.Join(err, gone)
	}()
	acks := int16(-1)
	if o.acks == "1" {
		acks = 1
	}
	load := raw.Load{
		Addr: o.bootstrap, Connections: o.connections, InFlight: o.inFlight, Warm: 500 * time.Millisecond, Measure: time.Duration(o.seconds * float64(time.Second)),
	}
	fmt.Fprintf(stdout, "%-8s %12s %12s %10s %10s %10s %10s %10s\n", "", "requests/s", "records/s", "MB/s", "p50 us", "p99 us", "p99.9 us", "max us")
	r, err := raw.Produce{Load: load, Topic: o.topic, Partitions: o.partitions, Batch: o.batch, Record: o.record, Acks: acks}.Run(ctx)
	if err != nil {
		return err
	}
	benchLine(stdout, "produce", r)
	load.InFlight = 1
	if r, err = (raw.Fetch{Load: load, Topic: o.topic, Partitions: o.partitions, PartitionBytes: 1 << 20, MaxBytes: 50 << 20}).Run(ctx); err != nil {
		return err
	}
	benchLine(stdout, "fetch", r)
	return nil
}

func benchLine(w io.Writer, what string, r *raw.Result) {
	seconds := r.Took.Seconds()
	us := func(q float64) float64 { return float64(r.Latency.Quantile(q)) / 1e3 }
	line := fmt.Sprintf("%-8s %12.0f %12.0f %10.1f %10.0f %10.0f %10.0f %10.0f", what, float64(r.Requests)/seconds, float64(r.Records)/seconds,
		float64(r.Bytes)/1e6/seconds, us(0.5), us(0.99), us(0.999), float64(r.Latency.Max())/1e3)
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}
