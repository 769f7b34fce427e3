package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// connectWorker is a process of Kafka Connect with a file source and a file sink,
// which can be killed and started again.
type connectWorker struct {
	argv []string
	rest string // HOST:PORT of its REST API
	log  io.Writer

	*process // the last one started
}

const (
	connectSource, connectSink = "lines-in", "lines-out"

	// connectBatch is how many lines a source hands over at a time: with exactly-once, in a transaction.
	connectBatch = "20"
)

// connectorConfigs are the two connectors by their names.
func (r *connectRun) connectorConfigs() map[string]map[string]string {
	source := map[string]string{"name": connectSource, "connector.class": "FileStreamSource", "tasks.max": "1",
		"file": r.source(), "topic": r.topic, "batch.size": connectBatch}
	if r.exactly {
		source["exactly.once.support"] = "required"
	}
	return map[string]map[string]string{connectSource: source,
		connectSink: {"name": connectSink, "connector.class": "FileStreamSink", "tasks.max": "1", "file": r.sink(), "topics": r.topic}}
}

// newWorker writes down the settings of a worker. Members that died are missed
// soon, otherwise they are the defaults and the ones in Kafka's examples.
func (r *connectRun) newWorker(java *javaTools, bootstrap string) (*connectWorker, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	w := &connectWorker{rest: fmt.Sprintf("127.0.0.1:%d", port), log: r.log}
	settings := []string{"bootstrap.servers=" + bootstrap, "listeners=http://" + w.rest, "plugin.discovery=service_load",
		"key.converter=" + r.converter, "value.converter=" + r.converter, "offset.flush.interval.ms=500",
		"consumer.isolation.level=read_committed", "consumer.session.timeout.ms=6000", "consumer.heartbeat.interval.ms=1000",
		"consumer.reconnect.backoff.max.ms=500", "producer.reconnect.backoff.max.ms=500",
		// A worker waits at its start for the end of the transaction in which the one before was killed.
		"producer.transaction.timeout.ms=5000"}
	class := "org.apache.kafka.connect.cli.ConnectStandalone"
	files := map[string]string{}
	var names []string
	if r.distributed {
		class = "org.apache.kafka.connect.cli.ConnectDistributed"
		settings = append(settings, "group.id=connects-"+r.name, "session.timeout.ms=6000", "heartbeat.interval.ms=1000",
			"scheduled.rebalance.max.delay.ms=0", "worker.unsync.backoff.ms=500", "reconnect.backoff.max.ms=500", "exactly.once.source.support=enabled")
		for _, kind := range []string{"config", "offset", "status"} {
			settings = append(settings, fmt.Sprintf("%s.storage.topic=connect-%s", kind, kind), kind+".storage.replication.factor=1")
		}
	} else {
		settings = append(settings, "offset.storage.file.filename="+filepath.Join(r.dir, "offsets"))
		for name, config := range r.connectorConfigs() {
			var lines []string
			for k, v := range config {
				lines = append(lines, k+"="+v)
			}
			files[name], names = strings.Join(lines, "\n"), append(names, filepath.Join(r.dir, name+".properties"))
		}
	}
	files["worker"] = strings.Join(settings, "\n")
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(r.dir, name+".properties"), []byte(text+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	w.argv = java.command(context.Background(), class, append([]string{filepath.Join(r.dir, "worker.properties")}, names...)...).Args
	return w, nil
}

func (w *connectWorker) start() error {
	cmd := exec.Command(w.argv[0], w.argv[1:]...)
	cmd.Stdout, cmd.Stderr = w.log, w.log
	p, err := startProcess(cmd)
	if err == nil {
		w.process = p
	}
	return err
}

// call asks the REST API; the body and the answer are JSON.
func (w *connectWorker) call(ctx context.Context, method, path string, body, answer any) error {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.rest+path, in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

// connectState is the state of a connector or a task.
type connectState struct {
	State string `json:"state"`
	Trace string `json:"trace"` // why it is FAILED
}

// failed says why a connector or a task of it gave up; nil also while the worker does not answer.
func (w *connectWorker) failed(ctx context.Context, connector string) error {
	var status struct {
		Connector connectState   `json:"connector"`
		Tasks     []connectState `json:"tasks"`
	}
	if err := w.call(ctx, http.MethodGet, "/connectors/"+connector+"/status", nil, &status); err != nil {
		return nil
	}
	for _, s := range append(status.Tasks, status.Connector) {
		if s.State == "FAILED" {
			return errors.New(s.Trace)
		}
	}
	return nil
}

// restart has what failed of a connector start again.
func (w *connectWorker) restart(ctx context.Context, connector string) error {
	return w.call(ctx, http.MethodPost, "/connectors/"+connector+"/restart?includeTasks=true&onlyFailed=true", nil, nil)
}
