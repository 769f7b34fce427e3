package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// prepareKafka formats a directory for Apache Kafka as one combined node, with the JVM's flags and the settings that it is shipped with.
// Durable is what it can do for that: a flush after each batch (log.flush.interval.messages).
func prepareKafka(t *tools, dir string, w wishes) (*broker, error) {
	if err := t.install(); err != nil {
		return nil, err
	}
	b := &broker{data: dir}
	config, err := b.formatKafka(t, dir, w)
	if err != nil {
		return nil, err
	}
	b.launch = func() error {
		cmd := t.java("kafka.Kafka", config)
		cmd.Stdout, cmd.Stderr = t.log, t.log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return err
		}
		b.cmd = cmd
		return nil
	}
	return b, nil
}

// formatKafka chooses addresses, writes Kafka's settings, and formats an empty data directory.
func (b *broker) formatKafka(t *tools, dir string, w wishes) (config string, err error) {
	addr, err1 := freeAddr()
	quorum, err2 := freeAddr()
	if err := errors.Join(err1, err2, os.MkdirAll(dir, 0o755)); err != nil {
		return "", err
	}
	b.addr = addr
	properties := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@%[2]s
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%[3]s
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
`, addr, quorum, filepath.Join(dir, "data"))
	if w.durable {
		properties += "log.flush.interval.messages=1\n"
	}
	properties += strings.Join(w.settings, "\n") + "\n"
	config = filepath.Join(dir, "server.properties")
	if err := os.WriteFile(config, []byte(properties), 0o644); err != nil {
		return "", err
	}
	format := t.java("kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", config)
	if out, err := format.CombinedOutput(); err != nil {
		return "", fmt.Errorf("format the data directory of Kafka: %w\n%s", err, out)
	}
	return config, nil
}

// java runs a main class of Kafka with the flags of its start script.
func (t *tools) java(class string, args ...string) *exec.Cmd {
	flags := []string{
		"-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
		"-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true",
		"-Dlog4j2.configurationFile=" + filepath.Join("compat", "java", "log4j2.properties"), "-cp", t.jars, class,
	}
	return exec.Command("java", append(flags, args...)...)
}

// install has compat install Kafka's jars, if they are not there, and learns where.
func (t *tools) install() error {
	if t.jars != "" {
		return nil
	}
	out, err := exec.Command("go", "run", "./compat", "-jars").Output()
	if err != nil {
		return fmt.Errorf("install Kafka (go run ./compat -jars): %w", err)
	}
	t.jars = strings.TrimSpace(string(out))
	return nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
