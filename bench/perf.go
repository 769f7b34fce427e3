package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// This file measures with Kafka's own tools, which users know. They are cold JVMs beside the broker, so that they say
// more about their own start than raw loads do.

const perfRecord = 1000 // bytes

// perfRecords is what a tool sends or reads in about the measured time.
func (e *env) perfRecords() int64 { return max(int64(e.seconds.Seconds()*100_000), 1) }

// tool runs one of Kafka's tools in the measured time and answers its output. Its CPU time is the client's.
func (e *env) tool(cmd *exec.Cmd) (string, error) {
	e.window(true)
	out, err := cmd.CombinedOutput()
	e.window(false)
	if cmd.ProcessState != nil {
		e.to.client += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), nil
}

// producerPerf is kafka-producer-perf-test at full speed, acks=all.
func producerPerf() func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := errors.Join(e.bench.tools.install(), e.create(10)); err != nil {
			return run{}, err
		}
		out, err := e.tool(e.bench.tools.java("org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", e.broker.addr, "--topic", e.topic,
			"--num-records", fmt.Sprint(e.perfRecords()), "--record-size", fmt.Sprint(perfRecord), "--throughput", "-1", "--command-property", "acks=all"))
		if err != nil {
			return run{}, err
		}
		records, perSecond, err := parseProducerPerf(out)
		if err != nil {
			return run{}, err
		}
		return e.ofTool(records, float64(records)/perSecond)
	}
}

// ofTool is a run as a tool told it: its seconds are without the start of its JVM.
func (e *env) ofTool(records int64, seconds float64) (run, error) {
	r, err := e.filled(run{Records: records, Bytes: records * perfRecord})
	r.Seconds = seconds
	return r, err
}

// parseProducerPerf reads the last line that kafka-producer-perf-test prints:
// "1000 records sent, 5000.0 records/sec (4.77 MB/sec), 2.61 ms avg latency, ...".
func parseProducerPerf(out string) (records int64, perSecond float64, err error) {
	for line := range strings.Lines(out) {
		w := strings.Fields(line)
		if len(w) < 5 || w[1] != "records" || w[2] != "sent," || w[4] != "records/sec" {
			continue
		}
		var err1, err2 error
		records, err1 = strconv.ParseInt(w[0], 10, 64)
		perSecond, err2 = strconv.ParseFloat(w[3], 64)
		if err = errors.Join(err1, err2); err != nil {
			return 0, 0, err
		}
	}
	if records == 0 || perSecond <= 0 {
		return 0, 0, fmt.Errorf("kafka-producer-perf-test printed\n%s", out)
	}
	return records, perSecond, nil
}

// consumerPerf is kafka-consumer-perf-test, of a topic that was filled before.
func consumerPerf() func(*env) (run, error) {
	return func(e *env) (run, error) {
		if err := errors.Join(e.bench.tools.install(), e.create(10)); err != nil {
			return run{}, err
		}
		if _, _, err := e.fill(10, 64<<10, e.perfRecords()*1100); err != nil {
			return run{}, err
		}
		out, err := e.tool(e.bench.tools.java("org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", e.broker.addr, "--topic", e.topic,
			"--num-records", fmt.Sprint(e.perfRecords()), "--group", e.topic, "--timeout", fmt.Sprint(startWithin.Milliseconds())))
		if err != nil {
			return run{}, err
		}
		records, fetching, err := parseConsumerPerf(out)
		if err != nil {
			return run{}, err
		}
		return e.ofTool(records, fetching.Seconds())
	}
}

// parseConsumerPerf reads the table that kafka-consumer-perf-test prints: the number of records, and the time without that for joining the group.
func parseConsumerPerf(out string) (records int64, fetching time.Duration, err error) {
	var columns []string
	for line := range strings.Lines(out) {
		w := strings.Split(strings.TrimSpace(line), ", ")
		switch {
		case w[0] == "start.time":
			columns = w
		case len(columns) > 0 && len(w) == len(columns):
			for i, name := range columns {
				var n int64
				switch name {
				case "data.consumed.in.nMsg":
					records, err = strconv.ParseInt(w[i], 10, 64)
				case "fetch.time.ms":
					n, err = strconv.ParseInt(w[i], 10, 64)
					fetching = time.Duration(n) * time.Millisecond
				}
				if err != nil {
					return 0, 0, err
				}
			}
		}
	}
	if records == 0 || fetching <= 0 {
		return 0, 0, fmt.Errorf("kafka-consumer-perf-test printed\n%s", out)
	}
	return records, fetching, nil
}
