// Command gomembers runs members of groups by clients in Go that the project
// itself does not use: sarama and kafka-go. It is a module of its own, so that
// their versions stay out of the project's.
//
//	gomembers BOOTSTRAP sarama|kafka-go members
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/rotpeter/rotpeter/compat/clients/member"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 || args[2] != "members" {
		return errors.New("usage: gomembers BOOTSTRAP sarama|kafka-go members")
	}
	switch bootstrap := args[0]; args[1] {
	case "sarama":
		return member.Serve(func(c member.Command, out *member.Out) (member.Member, error) { return joinSarama(bootstrap, c, out) })
	case "kafka-go":
		return member.Serve(func(c member.Command, out *member.Out) (member.Member, error) { return joinKafkaGo(bootstrap, c, out) })
	}
	return fmt.Errorf("unknown client %q", args[1])
}
