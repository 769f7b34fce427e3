package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// txnScript is runs of tools with what Kafka's print: each a line of a tool and
// its arguments, a line ----, what it prints, and an empty line.
const txnScript = "testdata/transactions/tools.txt"

// txnToolTopic has the transactions that the tools look at.
const txnToolTopic = "transacted"

// txnTools looks with Kafka's tools, in one JVM, at transactions in all states,
// and ends one that hangs; with -golden it writes down what Kafka's print.
func (b *bench) txnTools(ctx context.Context, ref *reference) error {
	if b.classes == nil {
		b.report.add(result{suite: "transactions", client: "tools", check: "script", outcome: notRun, reason: "no Java"})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	began := time.Now()
	closeAll, err := makeTransactions(ctx, ref)
	defer closeAll()
	if err != nil {
		return err
	}
	jvm := &driver{argv: b.classes.command("Tools", "-Xmx256m").Args, log: b.log}
	defer jvm.Close()
	n, err := playTxnScript(ctx, jvm, ref.bootstrap, b.golden && b.target == "kafka")
	b.report.note("transactions", "tools", "script", time.Since(began), fmt.Sprintf("%d runs", n), err)
	return nil
}

// makeTransactions makes a transaction in each state and one that hangs: an old
// client's that its coordinator knows nothing of. Its record is an hour old.
func makeTransactions(ctx context.Context, ref *reference) (closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for _, c := range closers {
			c()
		}
	}
	if err := ref.create(ctx, txnToolTopic, 2); err != nil {
		return closeAll, err
	}
	raw := func(id string, old bool) (*rawTxn, error) {
		t, err := newRawTxn(ref.bootstrap, id, old)
		if err != nil {
			return nil, err
		}
		closers = append(closers, t.close)
		return t, t.init(ctx)
	}
	for _, commit := range []bool{true, false} {
		t, err := raw(map[bool]string{true: "is-committed", false: "is-aborted"}[commit], false)
		if err == nil {
			err = errors.Join(t.produce(ctx, txnToolTopic, 0, time.Now(), fmt.Sprintf("of a transaction with commit %v", commit)), t.end(ctx, commit))
		}
		if err != nil {
			return closeAll, err
		}
	}
	if _, err := raw("is-empty", false); err != nil {
		return closeAll, err
	}
	open, err := raw("is-open", false)
	if err == nil {
		err = open.produce(ctx, txnToolTopic, 1, time.Now(), "of an open transaction", "twice")
	}
	if err != nil {
		return closeAll, err
	}
	hanging, err := raw("hangs", true)
	if err == nil {
		err = hanging.produce(ctx, txnToolTopic, 0, time.Now().Add(-time.Hour), "of a transaction that hangs")
	}
	if err != nil {
		return closeAll, err
	}
	after := &kgo.Record{Topic: txnToolTopic, Partition: 0, Value: []byte("behind it")}
	cl, err := kgo.NewClient(kgo.SeedBrokers(ref.bootstrap), kgo.DisableIdempotentWrite(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return closeAll, err
	}
	defer cl.Close()
	return closeAll, cl.ProduceSync(ctx, after).FirstErr()
}

// playTxnScript runs the script; the error tells the runs that printed something else.
func playTxnScript(ctx context.Context, jvm *driver, bootstrap string, golden bool) (runs int, err error) {
	text, err := os.ReadFile(txnScript)
	if err != nil {
		return 0, err
	}
	classes := map[string]string{"kafka-transactions": kafkaTransactions, "kafka-console-consumer": consoleConsumer}
	var script, differ bytes.Buffer
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		head, want, found := strings.Cut(part, "\n----")
		words := strings.Fields(head)
		if !found || len(words) == 0 || classes[words[0]] == "" {
			return runs, fmt.Errorf("%s: %q is no run of a tool", txnScript, part)
		}
		var answer struct {
			Out, Err string
			Code     int
		}
		// The arguments of kafka-transactions in front of its command.
		args := append([]string{"--bootstrap-server", bootstrap}, words[1:]...)
		if err := jvm.call(ctx, "run", map[string]any{"class": classes[words[0]], "args": args}, &answer); err != nil {
			return runs, fmt.Errorf("%s: %w", head, err)
		}
		lines := append(timelessTable(answer.Out), firstComplaint(answer.Err)...)
		if answer.Code != 0 {
			lines = append(lines, fmt.Sprintf("exit code %d", answer.Code))
		}
		_, port, err := net.SplitHostPort(bootstrap)
		if err != nil {
			return runs, err
		}
		got := strings.TrimSpace(strings.ReplaceAll(strings.Join(lines, "\n"), ":"+port, ":PORT"))
		if want = strings.TrimSpace(want); got != want {
			fmt.Fprintf(&differ, "\n$ %s\nwant:\n%s\ngot:\n%s", head, want, got)
		}
		script.WriteString(strings.TrimSpace(head+"\n----\n"+got) + "\n\n")
		runs++
	}
	if golden {
		return runs, os.WriteFile(txnScript, append(bytes.TrimSpace(script.Bytes()), '\n'), 0o644)
	}
	if differ.Len() > 0 {
		err = fmt.Errorf("something else is printed:%s", differ.String())
	}
	return runs, err
}

// timelessTable is a table as a tool prints it, its rows sorted, words one space
// apart; times and durations have their column's name in brackets. Text is left as it is.
func timelessTable(text string) []string {
	var out []string
	var header []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		for i, w := range words {
			if header != nil && i < len(header) && (strings.Contains(header[i], "Time") || strings.Contains(header[i], "Duration")) &&
				!strings.HasSuffix(header[i], "TimeoutMs") && w != "None" && w != "-1" {
				words[i] = "<" + header[i] + ">"
			}
		}
		if header == nil && len(words) > 3 && strings.Contains(line, "\t") {
			header = words
		}
		out = append(out, strings.Join(words, " "))
	}
	if header != nil {
		slices.Sort(out[1:])
	}
	return out
}

// firstComplaint is the first line of standard error, and the exception that it gives as the reason.
func firstComplaint(text string) []string {
	cause := regexp.MustCompile(`(?m)^[a-zA-Z.]+Exception: .*$`)
	first, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if first == "" {
		return nil
	}
	out := []string{"stderr: " + strings.Join(strings.Fields(first), " ")}
	if c := cause.FindString(rest); c != "" {
		out = append(out, "stderr: "+c)
	}
	return out
}
