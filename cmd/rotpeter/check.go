package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rotpeter/rotpeter/inspect"
	"github.com/rotpeter/rotpeter/internal/vfs"
)

// Exit codes of check.
const (
	exitSound    = 0
	exitProblems = 1 // something is damaged, or has to be made again
	exitBlind    = 2 // it could not look
)

const checkUsage = `Usage: rotpeter check [--json] DIR...

Looks at data directories of this broker or of Apache Kafka (several of one node together), or at the
directories of single partitions, and says what is wrong with the files in them. It changes nothing, and may
run while a broker does.

  damage   data is lost or cannot be read
  derived  an index, a snapshot or a checkpoint is wrong, which can be made again from the data
  notice   worth knowing; nothing has to be done

Exit status: 0 sound (no damage, nothing derived), 1 problems were found, 2 it could not look.

`

// check is the subcommand check.
func check(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	debug.SetGCPercent(inspect.GCPercent)
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, checkUsage); flags.PrintDefaults() }
	asJSON := flags.Bool("json", false, "print each finding, and the summary at the end, as a JSON object on a line")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return exitUsage
	}
	out := &report{w: bufio.NewWriter(stdout), json: *asJSON}
	watch := new(inspect.Progress)
	stop := showProgress(ctx, stderr, watch)
	began := time.Now()
	sum, err := inspect.Check(inspect.Options{FS: vfs.OS(), Dirs: flags.Args(), InUse: locked, Found: out.finding, Progress: watch, Stop: ctx.Done()})
	stop()
	if err == nil {
		out.summary(&sum, time.Since(began))
	}
	if err := errors.Join(err, out.end()); err != nil {
		fmt.Fprintln(stderr, "rotpeter check:", err)
		return exitBlind
	}
	switch {
	case !sum.Sound():
		return exitProblems
	case sum.Unread > 0:
		return exitBlind
	}
	return exitSound
}

// report prints findings. The first error of the output sticks.
type report struct {
	w    *bufio.Writer
	json bool
	err  error
}

func (r *report) line(v any) {
	if r.err != nil {
		return
	}
	if !r.json {
		_, r.err = fmt.Fprintln(r.w, v)
		return
	}
	b, err := json.Marshal(v)
	if err == nil {
		_, err = r.w.Write(append(b, '\n'))
	}
	r.err = err
}

func (r *report) finding(f inspect.Finding) {
	r.line(f)
	if r.err == nil {
		r.err = r.w.Flush() // a check takes long, and who watches wants to see it
	}
}

func (r *report) summary(s *inspect.Summary, took time.Duration) {
	if r.json {
		r.line(struct {
			Summary *inspect.Summary `json:"summary"`
		}{s})
		return
	}
	r.line(fmt.Sprintf("checked %d partitions, %d segments, %d batches, %d records, %s in %s",
		s.Partitions, s.Segments, s.Batches, s.Records, size(s.Bytes), took.Round(time.Millisecond)))
	verdict := "sound"
	if !s.Sound() {
		verdict = "problems were found"
	}
	r.line(fmt.Sprintf("%s: %d damage, %d derived, %d notices", verdict, s.Damage, s.Derived, s.Notices))
}

func (r *report) end() error { return errors.Join(r.err, r.w.Flush()) }

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}

// showProgress keeps one line on a terminal up to date, until stop is called.
func showProgress(ctx context.Context, w io.Writer, p *inspect.Progress) (stop func()) {
	f, ok := w.(*os.File)
	if !ok {
		return func() {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(500 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				fmt.Fprintf(f, "\r%d of %d partitions, %s\033[K", p.Partitions.Load(), p.Of.Load(), size(p.Bytes.Load()))
			case <-ctx.Done():
				fmt.Fprint(f, "\r\033[K")
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
