package main

import (
	"context"
	"os/exec"
)

// client is a column of the table. What it can do is told by the interfaces
// below that impl has; a check that needs another one is not applicable.
type client struct {
	name    string
	impl    any
	missing string // why it cannot run here, empty if it can
}

type topicAdmin interface {
	Create(ctx context.Context, topic string, partitions int) error
	Topics(ctx context.Context) ([]string, error)
	Describe(ctx context.Context, topic string) (description, error)
	Delete(ctx context.Context, topic string) error
}

// description is what a client says about a topic. Retention is the value of
// retention.ms, empty if the client does not tell configurations.
type description struct {
	Partitions int    `json:"partitions"`
	Retention  string `json:"retention"`
}

type producer interface {
	Produce(ctx context.Context, topic, codec string, idempotent bool, rs []record) error
}

// consumer reads in a consumer group of the given number of members until
// count records have come to all of them together, commits and leaves.
// With one member exactly count records count as read.
type consumer interface {
	Consume(ctx context.Context, topic, group string, members, count int) ([]record, error)
}

// timeFinder answers the first offset at or after a timestamp (milliseconds)
// for each partition, -1 where there is none.
type timeFinder interface {
	Times(ctx context.Context, topic string, partitions int, timestamp int64) (map[int32]int64, error)
}

type groupAdmin interface {
	Groups(ctx context.Context) ([]string, error)
	Group(ctx context.Context, group, topic string) (groupInfo, error)
	DeleteGroup(ctx context.Context, group string) error
}

type groupInfo struct {
	State   string          `json:"state"`
	Members int             `json:"members"`
	Lag     map[int32]int64 `json:"lag"` // of the partitions with a committed offset
}

type versionTeller interface {
	Version(ctx context.Context) (string, error)
}

// apiLister answers the lines of kafka-broker-api-versions.
type apiLister interface {
	APIs(ctx context.Context) ([]string, error)
}

// feeder is a command that produces each line of its standard input, the key
// and the value apart by a unit separator, with acks=all; idempotent, so that
// it may retry for minutes while the broker is away.
type feeder interface {
	Feed(topic, codec string) *exec.Cmd
}

// drainer is commands, one or more members each, that together read a topic in
// a group and append to files in dir (see parseDrained). On SIGTERM they commit
// and leave.
type drainer interface {
	Drain(topic, group string, members int, dir string) ([]*exec.Cmd, error)
}
