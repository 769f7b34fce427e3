package main

import (
	"os/exec"
	"path/filepath"
	"strings"
)

// javaClasses is our own code in Java, compiled, with the jars that it runs with.
type javaClasses struct {
	*javaTools
	classes string // folder of our classes, by the compiler
}

// javaClasses is our code that needs no more than Kafka's clients and tools.
func (c *cache) javaClasses() (*javaClasses, error) {
	return c.compiled("java", "java", "Late", "Members", "Tools", "Transform")
}

// oldJava is the same code with an older client's jars.
func (c *cache) oldJava(java *javaClasses) (*javaClasses, error) {
	old, err := c.jars("java-old", "java/old")
	return &javaClasses{javaTools: old, classes: java.classes}, err
}

// compiled compiles classes of ours, by their names, against the jars of a pom.
func (c *cache) compiled(name, pom string, classes ...string) (*javaClasses, error) {
	if err := c.command("javac", "openjdk-17-jdk-headless"); err != nil {
		return nil, err
	}
	tools, err := c.jars(name, pom)
	if err != nil {
		return nil, err
	}
	pins := []string{pom + "/pom.xml"}
	for _, class := range classes {
		pins = append(pins, "clients/java/"+class+".java")
	}
	dir, err := c.installed(name+"-own", pins, func(dir string) error {
		args := []string{"-cp", strings.Join(tools.jars, ":"), "-d", dir}
		for _, source := range pins[1:] {
			args = append(args, filepath.Join(c.source, source))
		}
		return c.do("", "javac", args...)
	})
	return &javaClasses{javaTools: tools, classes: dir}, err
}

// command is the JVM for a class of ours. More heap than a tool's may be asked for.
func (j *javaClasses) command(class string, flags ...string) *exec.Cmd {
	args := append([]string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:disable", "-Dlog4j2.configurationFile=" + j.log4j}, flags...)
	return exec.Command("java", append(args, "-cp", j.classes+":"+strings.Join(j.jars, ":"), class)...)
}
