package protocol

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/pipenet"
)

func TestShutdownEndsWhatIsIdleAndFinishesWhatIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		committed := make(chan struct{})
		var produceEnded, joinEnded error
		r.produce = func(c *Call, _ *ProduceRequest) Answer {
			version := c.Version
			return Later(func(ctx context.Context) Response {
				<-committed
				produceEnded = ctx.Err()
				return &ProduceResponse{Version: version}
			})
		}
		r.join = func(*Call) Answer {
			return Later(func(ctx context.Context) Response {
				<-ctx.Done()
				joinEnded = ctx.Err()
				return kmsg.NewPtrJoinGroupResponse()
			})
		}
		silent, idle, half, polling, producing, muted := r.dial(), r.dial(), r.dial(), r.dial(), r.dial(), r.dial()
		idle.send(metadataRequest(1))
		idle.expect(1)
		half.send(metadataRequest(1)[:10])
		polling.send(joinRequest(1), metadataRequest(2))
		producing.send(produceRequest(1, -1, 100), metadataRequest(2))
		synctest.Wait() // nobody calls the old handler any more
		r.metadata = func(*Call) Answer { return Now(kmsg.NewPtrMetadataResponse()).Throttled(time.Hour) }
		muted.send(metadataRequest(1))
		muted.expect(1)
		synctest.Wait()

		done := make(chan error, 1)
		go func() { done <- r.s.Shutdown(t.Context()) }()
		silent.expectClosed()
		idle.expectClosed()
		half.expectClosed()
		muted.expectClosed()
		polling.expect(1)
		polling.expectClosed() // the second request had not begun
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Shutdown ended before the producer had its answer: %v", err)
		default:
		}
		if c, err := r.pipe.Dial(); err == nil {
			c.Close()
			t.Error("a connection was accepted during the shutdown")
		}
		close(committed)
		producing.expect(1, 2) // both had begun
		producing.expectClosed()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if produceEnded != nil || !errors.Is(joinEnded, context.Canceled) {
			t.Errorf("contexts: %v of Produce, %v of JoinGroup", produceEnded, joinEnded)
		}
		if got := r.s.Stats().Closed; got[ReasonShutdown] != 6 || len(got) != 1 {
			t.Errorf("closed: %v", got)
		}
		if err := r.s.Serve(pipenet.Listen("127.0.0.1:1")); !errors.Is(err, errServerClosed) {
			t.Errorf("Serve after Shutdown: %v", err)
		}
	})
}

func TestShutdownByForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		var ended []string
		waits := func(name string, resp Response) Answer {
			return Later(func(ctx context.Context) Response {
				<-ctx.Done()
				ended = append(ended, name)
				return resp
			})
		}
		r.produce = func(c *Call, _ *ProduceRequest) Answer { return waits("produce", &ProduceResponse{Version: c.Version}) }
		stuck, unread := r.dial(), r.dial()
		stuck.send(produceRequest(1, -1, 100), produceRequest(2, -1, 100))
		released := 0
		r.fetch = func(c *Call, _ *FetchRequest) Answer {
			return Now(fetched(c.Version, Run{Data: make([]byte, 1<<20)}, func() { released++ }))
		}
		unread.send(fetchRequest(1))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := r.s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("Shutdown took %v", d)
		}
		if !slices.Equal(ended, []string{"produce", "produce"}) || released != 1 {
			t.Errorf("ended: %v, released %d times", ended, released)
		}
		if got := r.s.Stats().Closed; got[ReasonShutdown] != 2 {
			t.Errorf("closed: %v", got)
		}
	})
}

// Every Later is run and every response released, once, however the peer goes.
func TestNothingIsLeftWhenThePeerGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		waits, releases := 0, 0
		ready := make(chan struct{})
		r.produce = func(c *Call, _ *ProduceRequest) Answer {
			version := c.Version
			return Later(func(context.Context) Response {
				<-ready
				waits++
				return &ProduceResponse{Version: version}
			})
		}
		r.fetch = func(c *Call, _ *FetchRequest) Answer {
			resp := fetched(c.Version, Run{Data: make([]byte, 1<<20)}, func() { releases++ })
			return Later(func(context.Context) Response { return resp })
		}
		p := r.dial()
		p.send(produceRequest(1, -1, 10), fetchRequest(2), produceRequest(3, -1, 10), fetchRequest(4), produceRequest(5, -1, 10))
		synctest.Wait()
		p.Close()
		synctest.Wait()
		close(ready)
		synctest.Wait()
		if waits != 3 || releases != 2 {
			t.Errorf("%d of 3 waits, %d of 2 releases", waits, releases)
		}
		if st := r.s.Stats(); st.Open != 0 {
			t.Errorf("%d connections are open", st.Open)
		}
	})
}

func TestCreditQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCredit(1000) // firsts up to 625, rests up to 875
		if !c.tryFirst(600) || c.tryFirst(26) {
			t.Fatal("firsts do not end at five eighths")
		}
		if err := c.waitRest(t.Context(), 251); !errors.Is(err, errNoCredit) {
			t.Errorf("a rest of more than a quarter: %v", err)
		}
		if err := c.waitFirst(t.Context(), 626); !errors.Is(err, errNoCredit) {
			t.Errorf("a first of more than five eighths: %v", err)
		}
		if err := c.waitSmall(t.Context(), 1001); !errors.Is(err, errNoCredit) {
			t.Errorf("a small one of more than all: %v", err)
		}
		var order []string
		wait := func(name string, f func(context.Context, int64) error, n int64) {
			go func() {
				if err := f(t.Context(), n); err != nil {
					t.Error(err)
				}
				order = append(order, name)
			}()
			synctest.Wait()
		}
		wait("rest 250", c.waitRest, 250) // there is room for it
		wait("first 100", c.waitFirst, 100)
		wait("first 10", c.waitFirst, 10)
		wait("rest 200", c.waitRest, 200)
		if c.tryFirst(1) {
			t.Error("a newcomer overtakes")
		}
		if !c.trySmall(150) {
			t.Error("a small one has to wait for large ones")
		}
		wait("small 50", c.waitSmall, 50)
		if c.trySmall(1) {
			t.Error("a small newcomer overtakes")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.waitRest(ctx, 250); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a rest that never fits: %v", err)
		}
		for _, n := range []int64{100, 300, 330, 10} { // to 900, 650, 520 and 610, and one more fits each time
			c.give(n)
			synctest.Wait()
		}
		if !slices.Equal(order, []string{"rest 250", "small 50", "rest 200", "first 100", "first 10"}) {
			t.Errorf("order: %q", order)
		}
		c.force(5000)
		c.give(5000)
		if c.Used() != 620 || c.Total() != 1000 {
			t.Errorf("%d of %d bytes are used", c.Used(), c.Total())
		}
	})
}
