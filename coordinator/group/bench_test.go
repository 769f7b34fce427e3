package group

import (
	"fmt"
	"testing"

	"github.com/rotpeter/rotpeter/coordinator"
)

func BenchmarkHandle(b *testing.B) {
	offsets := "t/0:1"
	for i := 1; i < 100; i++ {
		offsets += fmt.Sprintf(",t/%d:1", i)
	}
	for _, c := range []struct {
		name, line string
		a          args
	}{
		{"heartbeat", "heartbeat", args{"member": "c-1"}},
		{"commit of 1", "commit", args{"group": "s", "offsets": "t/0:1"}},
		{"commit of 100", "commit", args{"group": "s", "offsets": offsets}},
		{"fetch of 100", "fetch", args{"group": "s"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, DefaultOptions(nil, nil))
			run := func(body any) {
				for _, r := range w.shard.Handle(w.now, coordinator.Event{Token: "t", Body: body}).Records {
					w.shard.Apply(r)
				}
			}
			run(readEvent("join", args{"version": "3"}))
			w.now = w.now.Add(w.o.InitialRebalanceDelay)
			run(coordinator.Tick{})
			run(readEvent("commit", args{"group": "s", "offsets": offsets}))
			body := readEvent(c.line, c.a)
			b.ReportAllocs()
			for b.Loop() {
				run(body)
			}
		})
	}
}
