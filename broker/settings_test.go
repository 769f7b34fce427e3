package broker

import (
	"testing"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/metadata"
)

// The settings of a log are resolved once for all partitions, and again when a topic's or the broker's have changed.
func TestLogConfigIsKeptUntilSettingsChange(t *testing.T) {
	c, err := config.Load()
	if err != nil {
		t.Fatal(err)
	}
	b := &Broker{}
	b.conf.Store(c)
	bytesOf := func(want int, topic *metadata.Topic) {
		t.Helper()
		for range 2 {
			if got := b.topicLogConfig(topic).SegmentBytes; got != want {
				t.Errorf("segments of %d bytes, want %d", got, want)
			}
		}
	}
	plain, other := &metadata.Topic{Name: "a"}, &metadata.Topic{Name: "b"}
	small := &metadata.Topic{Name: "c", Configs: map[string]string{"segment.bytes": "2097152"}}
	smaller := &metadata.Topic{Name: "c", Configs: map[string]string{"segment.bytes": "1048576"}}
	bytesOf(1<<30, plain)
	bytesOf(2<<20, small)
	bytesOf(1<<30, other)
	bytesOf(1<<20, smaller) // as after an alteration: images do not change, they are replaced
	bytesOf(2<<20, small)
	if allocs := testing.AllocsPerRun(10, func() { b.topicLogConfig(plain); b.topicLogConfig(small) }); allocs > 0 {
		t.Errorf("what is known is resolved again: %v allocations", allocs)
	}
	if c, err = c.WithDynamicDefault(map[string]string{"log.segment.bytes": "4194304"}); err != nil {
		t.Fatal(err)
	}
	b.conf.Store(c)
	bytesOf(4<<20, plain)
	bytesOf(2<<20, small)
}
