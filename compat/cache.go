package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// cache holds what the clients need, outside the source tree and shared between
// runs: a folder for each set of pinned versions, named by the hash of the
// files that pin them. A run that finds a folder complete uses it; otherwise it
// installs it anew under a lock, so that runs side by side do it once.
type cache struct {
	dir    string
	source string // folder of compat's own files
	log    io.Writer

	apt sync.Mutex // one apt-get at a time
}

// complete is the name of the file that says that a folder was installed whole.
const complete = ".complete"

// installed answers the folder of a set, after it installed it if need be.
func (c *cache) installed(name string, pins []string, install func(dir string) error) (string, error) {
	hash := sha256.New()
	for _, pin := range pins {
		b, err := os.ReadFile(filepath.Join(c.source, pin))
		if err != nil {
			return "", err
		}
		hash.Write(b)
	}
	dir := filepath.Join(c.dir, name+"-"+hex.EncodeToString(hash.Sum(nil))[:12])
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close() // and with it the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(filepath.Join(dir, complete)); err == nil {
		return dir, nil
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return "", err
	}
	if err := install(dir); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	return dir, os.WriteFile(filepath.Join(dir, complete), nil, 0o644)
}

// command makes sure that a program is there, if need be and if this process
// may from Debian's packages.
func (c *cache) command(name string, packages ...string) error {
	c.apt.Lock()
	defer c.apt.Unlock()
	if _, err := exec.LookPath(name); err == nil {
		return nil
	}
	_, err := exec.LookPath("apt-get")
	if os.Geteuid() != 0 || err != nil {
		return fmt.Errorf("%s is not installed (Debian: apt-get install %s)", name, strings.Join(packages, " "))
	}
	if err := c.do("", "apt-get", "update", "-q"); err != nil {
		return err
	}
	return c.do("", "apt-get", append([]string{"install", "-q", "-y", "--no-install-recommends"}, packages...)...)
}

// do runs an installer, whose output goes to the log.
func (c *cache) do(dir, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	var tail strings.Builder
	cmd.Stdout, cmd.Stderr = c.log, io.MultiWriter(c.log, &tail)
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(tail.String()), "\n")
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{program}, args...), " "), err, lines[len(lines)-1])
	}
	return nil
}

// java answers the tools of Kafka, after their jars came from Maven Central.
func (c *cache) java() (*javaTools, error) {
	if err := c.command("java", "openjdk-17-jre-headless"); err != nil {
		return nil, err
	}
	return c.jars("java", "java")
}

// jars answers the jars of a pom, after they came from Maven Central.
func (c *cache) jars(name, pom string) (*javaTools, error) {
	dir, err := c.installed(name, []string{pom + "/pom.xml"}, func(dir string) error {
		if err := c.command("mvn", "maven"); err != nil {
			return err
		}
		jars := filepath.Join(dir, "jars")
		return errors.Join(os.MkdirAll(filepath.Join(dir, "archives"), 0o755),
			c.do(filepath.Join(c.source, pom), "mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+jars))
	})
	jars, globErr := filepath.Glob(filepath.Join(dir, "jars", "*.jar"))
	return &javaTools{jars: jars, archives: filepath.Join(dir, "archives"),
		log4j: filepath.Join(c.source, "java", "log4j2.properties"), log: c.log}, errors.Join(err, globErr)
}

// python answers the interpreter of a virtual environment with the Python clients.
func (c *cache) python() (string, error) {
	if err := c.command("python3", "python3", "python3-venv"); err != nil {
		return "", err
	}
	dir, err := c.installed("python", []string{"clients/python/requirements.txt"}, func(dir string) error {
		if err := c.do("", "python3", "-m", "venv", dir); err != nil {
			return err
		}
		return c.do("", filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "-q", "--require-hashes",
			"--only-binary", ":all:", "-r", filepath.Join(c.source, "clients/python/requirements.txt"))
	})
	return filepath.Join(dir, "bin", "python"), err
}

// node answers a folder with kafkajs installed and a copy of our code beside it.
func (c *cache) node() (string, error) {
	if err := c.command("node", "nodejs", "npm"); err != nil {
		return "", err
	}
	own := []string{"clients/node/package.json", "clients/node/package-lock.json", "clients/node/client.js", "clients/node/members.js", "clients/node/transform.js",
		"clients/node/codecs.js"}
	return c.installed("node", own, func(dir string) error {
		for _, name := range own {
			b, err := os.ReadFile(filepath.Join(c.source, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o644)
			}
			if err != nil {
				return err
			}
		}
		return c.do(dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	})
}

// franz builds the franz-go client into dir.
func (c *cache) franz(dir string) (string, error) {
	bin := filepath.Join(dir, "franz")
	return bin, c.do(c.source, "go", "build", "-o", bin, "./clients/franz")
}
