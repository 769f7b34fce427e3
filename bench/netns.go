package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// inside is set in the environment of the process that runs in the namespace.
	inside            = "ROTPETER_BENCH_NETNS"
	congestionControl = "/proc/sys/net/ipv4/tcp_congestion_control"
)

// isolate runs this program again in a network namespace of its own, and answers its exit code. Errors: it may not make one.
func isolate() (code int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err = cmd.Wait()
	if err != nil && cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// isolated reports whether this process is the one in the namespace.
func isolated() bool { return os.Getenv(inside) != "" }

// prepare brings the namespace's loopback up, and has its route use cubic: bbr, which some machines have as the default, paces
// even that. It answers the congestion control that connections have.
func prepare() (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return "", err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return "", fmt.Errorf("bring lo up: %w", err)
	}
	if is := firstWord(congestionControl); is == "cubic" {
		return is, nil
	}
	route := "route replace local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1 congctl cubic"
	if out, err := exec.Command("ip", strings.Fields(route)...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cubic could not be chosen (ip %s: %v %s): figures are lower with %s\n", route, err, out, firstWord(congestionControl))
		return firstWord(congestionControl), nil
	}
	return "cubic", nil
}
