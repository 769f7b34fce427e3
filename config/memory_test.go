package config

import (
	"strings"
	"testing"
)

// Whatever the limit, the parts with a bound stay below the half that is not for what clients make.
func TestMemoryAddsUp(t *testing.T) {
	c := mustLoad(t)
	for mib := int64(83); mib < 1<<16; mib += 1 + mib/10 {
		limit := mib << 20
		m, err := c.Memory(limit)
		if err != nil {
			t.Fatalf("%d MiB: %v", mib, err)
		}
		if sum := m.sum(); sum > limit/2 || m.GoBytes >= limit || m.StateBytes >= m.GoBytes {
			t.Errorf("%d MiB: the parts are %d, Go's limit %d, state %d", mib, sum, m.GoBytes, m.StateBytes)
		}
		if m.FrameBytes < c.Int("message.max.bytes")+1<<16 || m.OtherFrameBytes*decodedTimes > m.RequestBytes {
			t.Errorf("%d MiB: frames of %d and %d bytes, of %d", mib, m.FrameBytes, m.OtherFrameBytes, m.RequestBytes)
		}
	}
}

func TestMemoryWithoutALimitIsWhatTheSettingsSay(t *testing.T) {
	m, err := mustLoad(t, set("queued.max.request.bytes=104857600", "max.connections=7")).Memory(0)
	if err != nil || m.GoBytes != 0 || m.StateBytes != 0 || m.RequestBytes != 100<<20 || m.Connections != 7 || m.DedupeBytes != 128<<20 {
		t.Errorf("%+v, %v", m, err)
	}
}

// What is too small is refused with the smallest limit that would do, and that one does.
func TestMemoryThatIsTooLittle(t *testing.T) {
	for _, k := range []struct {
		settings []string
		least    int64 // MiB
		says     string
	}{
		{nil, 83, "half is for connections"},
		{[]string{"log.cleaner.dedupe.buffer.size=134217728"}, 668, "128 MiB for keys of compaction (log.cleaner.dedupe.buffer.size)"},
		{[]string{"rotpeter.request.memory.bytes=104857600"}, 547, "200 MiB for requests and their buffers (rotpeter.request.memory.bytes)"},
	} {
		c := mustLoad(t, set(append(k.settings, "rotpeter.memory.max=1000000")...))
		_, err := c.Memory(c.Int("rotpeter.memory.max"))
		if err == nil || !strings.Contains(err.Error(), k.says) || !strings.HasPrefix(err.Error(), "--set") {
			t.Fatalf("%v: %v", k.settings, err)
		}
		if _, err := c.Memory(k.least << 20); err != nil {
			t.Errorf("%v: %d MiB: %v", k.settings, k.least, err)
		}
		if _, err := c.Memory(k.least<<20 - 1<<20); err == nil {
			t.Errorf("%v: less than %d MiB will do", k.settings, k.least)
		}
	}
}
