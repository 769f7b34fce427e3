package main

import "fmt"

// gate is what a scenario has to hold, judged on the medians by target.
type gate struct {
	text string
	// holds judges; known is false if a target that is needed was not measured.
	holds func(medians map[string]run) (is string, ok, known bool)
}

// ours is whom gates are about.
const ours = "rotpeter"

func about(text string, of func(r *run) (string, bool)) *gate {
	return &gate{text, func(medians map[string]run) (string, bool, bool) {
		r, known := medians[ours]
		if !known {
			return "", false, false
		}
		is, ok := of(&r)
		return is, ok, true
	}}
}

func cpuPerGB(most float64) *gate {
	return about(fmt.Sprintf("at most %.2f CPU-s/GB", most), func(r *run) (string, bool) {
		is := r.BrokerCPU / (float64(r.Bytes) / 1e9)
		return fmt.Sprintf("%.3f CPU-s/GB", is), is <= most
	})
}

func cpuPerRecord(most float64) *gate {
	return about(fmt.Sprintf("at most %.2f us of CPU a record", most), func(r *run) (string, bool) {
		is := r.BrokerCPU * 1e6 / float64(r.Records)
		return fmt.Sprintf("%.3f us", is), is <= most
	})
}

func cpuPerRequest(most float64) *gate {
	return about(fmt.Sprintf("at most %.0f us of CPU a request", most), func(r *run) (string, bool) {
		is := r.BrokerCPU * 1e6 / float64(r.Requests)
		return fmt.Sprintf("%.1f us", is), is <= most
	})
}

func rate(least float64) *gate {
	return about(fmt.Sprintf("at least %.0f requests/s", least), func(r *run) (string, bool) {
		is := float64(r.Requests) / r.Seconds
		return fmt.Sprintf("%.0f requests/s", is), is >= least
	})
}

// latencyAgainst: the 99th percentile against the null broker's and Kafka's.
func latencyAgainst() *gate {
	return &gate{"p99 at most 1.5 times the null broker's and half of Kafka's", func(medians map[string]run) (string, bool, bool) {
		r, ok1 := medians[ours]
		null, ok2 := medians["null"]
		kafka, ok3 := medians["kafka"]
		if !ok1 || !ok2 || !ok3 {
			return "", false, false
		}
		return fmt.Sprintf("%.2f of the null broker's, %.2f of Kafka's", r.P99/null.P99, r.P99/kafka.P99), r.P99 <= 1.5*null.P99 && r.P99 <= 0.5*kafka.P99, true
	}}
}

// plusMicros: the median against the null broker's.
func plusMicros(most float64) *gate {
	return &gate{fmt.Sprintf("p50 at most the null broker's and %.0f us", most), func(medians map[string]run) (string, bool, bool) {
		r, ok1 := medians[ours]
		null, ok2 := medians["null"]
		if !ok1 || !ok2 {
			return "", false, false
		}
		return fmt.Sprintf("%.0f us more", r.P50-null.P50), r.P50 <= null.P50+most, true
	}}
}

// valueAtMost: the headline of a scenario with a measure of its own.
func valueAtMost(most float64, unit string) *gate {
	return about(fmt.Sprintf("at most %s %s", figure(most), unit), func(r *run) (string, bool) {
		return figure(r.Value) + " " + unit, r.Value <= most
	})
}

// alsoAtMost: a further figure.
func alsoAtMost(most float64, what string) *gate {
	return about(fmt.Sprintf("at most %s %s", figure(most), what), func(r *run) (string, bool) {
		v, ok := r.Also[what]
		return figure(v) + " " + what, ok && v <= most
	})
}

// belowKafka: the headline and Kafka's.
func belowKafka() *gate {
	return &gate{"below Kafka's", func(medians map[string]run) (string, bool, bool) {
		r, ok1 := medians[ours]
		kafka, ok2 := medians["kafka"]
		if !ok1 || !ok2 {
			return "", false, false
		}
		return fmt.Sprintf("%.2f of Kafka's", r.Value/kafka.Value), r.Value < kafka.Value, true
	}}
}

// residentGate: 30 MB and 4 KB a partition.
func residentGate(partitions int) *gate {
	return alsoAtMost(30+4e-3*float64(partitions), "MB resident")
}

// nearPlain: against a file that is written and synced in sequence.
func nearPlain() *gate {
	return about("at least 0.9 of a plain file's speed", func(r *run) (string, bool) {
		is := r.Also["of a plain file's speed"]
		return figure(is), is >= 0.9
	})
}
