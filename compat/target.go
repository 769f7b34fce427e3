package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is one broker process and its data directory. It can be killed and
// started again on the same address and data.
type target struct {
	name  string // rotpeter or kafka
	data  string // data directory
	log   io.Writer
	start func(t *target) (*exec.Cmd, error) // starts and returns when it serves

	bootstrap string // HOST:PORT of the Kafka protocol, from the first start on
	advertise string // HOST:PORT told to clients instead, empty = bootstrap
	http      string // HOST:PORT of metrics and health, rotpeter only
	cmd       *exec.Cmd
}

// startWithin is how long a broker may take from exec until it serves.
const startWithin = time.Minute

// Start starts the broker, on the same address as before if it ran before.
func (t *target) Start() error {
	cmd, err := t.start(t)
	if err != nil {
		if cmd != nil { // it runs, and does not serve
			err = errors.Join(err, cmd.Process.Kill())
			cmd.Wait() // says that it was killed
		}
		return fmt.Errorf("start %s: %w", t.name, err)
	}
	t.cmd = cmd
	return nil
}

// Kill ends the broker with SIGKILL.
func (t *target) Kill() error {
	if err := t.cmd.Process.Kill(); err != nil {
		return err
	}
	t.cmd.Wait() // says that it was killed
	t.cmd = nil
	return nil
}

// Stop ends the broker with SIGTERM; a broker that does not exit, or with
// another code than 0 (143 for the JVM), is an error.
func (t *target) Stop() error {
	if t.cmd == nil {
		return nil
	}
	cmd := t.cmd
	t.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", t.name, errors.Join(err, cmd.Wait()))
	}
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 143 {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", t.name, err)
	}
	return nil
}

// Alive says whether the process still runs.
func (t *target) Alive() bool {
	return t.cmd != nil && t.cmd.Process.Signal(syscall.Signal(0)) == nil && t.memory("State") != "Z"
}

// memory is a field of the process's status, like VmRSS ("12345 kB") or VmHWM.
func (t *target) memory(field string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.cmd.Process.Pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			f := strings.Fields(rest)
			return f[0]
		}
	}
	return ""
}

// megabytes is a memory field in MB (10^6 bytes), 0 where it is unknown.
func (t *target) megabytes(field string) float64 {
	kib, err := strconv.ParseFloat(t.memory(field), 64)
	if err != nil {
		return 0
	}
	return kib * 1024 / 1e6
}

// metrics is the text of /metrics, rotpeter only.
func (t *target) metrics(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.http+"/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// newRotpeter is the built binary.
func newRotpeter(bin, data string, log io.Writer, settings []string) *target {
	return &target{name: "rotpeter", data: data, log: log, start: func(t *target) (*exec.Cmd, error) {
		listen := t.bootstrap
		if listen == "" {
			listen = "127.0.0.1:0"
		}
		cmd := exec.Command(bin, "--data", data, "--listen", listen, "--http", "127.0.0.1:0",
			"--set", "group.initial.rebalance.delay.ms=300")
		for _, s := range settings {
			cmd.Args = append(cmd.Args, "--set", s)
		}
		if t.advertise != "" {
			cmd.Args = append(cmd.Args, "--set", "advertised.listeners=PLAINTEXT://"+t.advertise)
		}
		cmd.Stderr = t.log
		line, err := firstLine(cmd)
		if err != nil {
			return nil, err
		}
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "rotpeter" || words[1] != "ready" {
			return nil, errors.Join(fmt.Errorf("the broker printed %q", line), cmd.Process.Kill(), cmd.Wait())
		}
		for _, word := range words {
			if v, ok := strings.CutPrefix(word, "kafka="); ok {
				t.bootstrap = v
			}
			if v, ok := strings.CutPrefix(word, "http="); ok {
				t.http = v
			}
		}
		return cmd, nil
	}}
}

// firstLine starts a command and waits for the first line that it prints.
func firstLine(cmd *exec.Cmd) (string, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	timer := time.AfterFunc(startWithin, func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	timer.Stop()
	if err != nil {
		return "", fmt.Errorf("it ended before it was ready: %w", errors.Join(err, cmd.Wait()))
	}
	go io.Copy(io.Discard, out)
	return line, nil
}

// newKafka is Apache Kafka as one combined node, to judge the checks.
func newKafka(j *javaTools, dir string, log io.Writer, settings []string) *target {
	var controller int
	return &target{name: "kafka", data: filepath.Join(dir, "kafka-data"), log: log, start: func(t *target) (*exec.Cmd, error) {
		config := filepath.Join(dir, "server.properties")
		if t.bootstrap == "" {
			port, err1 := freePort()
			quorum, err2 := freePort()
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			t.bootstrap, controller = fmt.Sprintf("127.0.0.1:%d", port), quorum
			properties := kafkaProperties(t.bootstrap, cmp.Or(t.advertise, t.bootstrap), controller, t.data) +
				strings.Join(settings, "\n") + "\n"
			if err := os.WriteFile(config, []byte(properties), 0o644); err != nil {
				return nil, err
			}
			if _, err := j.run(context.Background(), nil, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", config); err != nil {
				return nil, err
			}
		}
		cmd := j.command(context.Background(), "kafka.Kafka", config)
		cmd.Stderr = t.log
		cmd.Args = append([]string{cmd.Args[0], "-Xmx1g", "-Dcompat.log.level=INFO"}, withoutHeap(cmd.Args[1:])...)
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return cmd, waitServing(t.bootstrap)
	}}
}

// withoutHeap leaves out the tools' heap limit.
func withoutHeap(args []string) []string {
	var out []string
	for _, a := range args {
		if !strings.HasPrefix(a, "-Xmx") {
			out = append(out, a)
		}
	}
	return out
}

func kafkaProperties(bootstrap, advertise string, controller int, data string) string {
	return fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[3]d
listeners=PLAINTEXT://%[1]s,CONTROLLER://127.0.0.1:%[3]d
advertised.listeners=PLAINTEXT://%[2]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%[4]s
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=300
`, bootstrap, advertise, controller, data)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// waitServing waits until a broker accepts connections and answers Metadata.
func waitServing(bootstrap string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for {
		if conn, err := net.DialTimeout("tcp", bootstrap, time.Second); err == nil {
			conn.Close()
			ref, err := newReference(bootstrap)
			if err != nil {
				return err
			}
			_, err = ref.admin.BrokerMetadata(ctx)
			ref.close()
			if err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer from %s within %v", bootstrap, startWithin)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
