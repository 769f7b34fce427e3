package broker

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// offsetsTopic keeps the state of groups.
const offsetsTopic = "__consumer_offsets"

// groups are the coordinators of groups.
type groups struct {
	*coordinators
	opts group.Options
}

func newGroups(b *Broker, opts group.Options) *groups {
	g := &groups{opts: opts}
	g.coordinators = newCoordinators(b, offsetsTopic, func(key partitionKey) coordinator.ShellOptions {
		return coordinator.ShellOptions{
			New: func() coordinator.Shard {
				o := opts
				o.Cluster, o.LoadedAfter = newGroupCluster(b.image(), b.conf.Load()), g.loadedAfter(key)
				return group.New(o)
			},
			Errands: func(all []coordinator.Errand) { g.errands(key, all) },
		}
	})
	return g
}

// topicDeleted tells every group that a topic is gone, so that its committed
// offsets go too. The deletion of the offsets topic itself ends all shells.
func (g *groups) topicDeleted(ctx context.Context, t *metadata.Topic) {
	switch t.Name {
	case offsetsTopic:
		g.drop(t.ID)
		return
	case transactionsTopic:
		g.b.txns.drop(t.ID)
	}
	shells, err := g.all()
	if err != nil {
		g.b.log.Warn("offsets of a deleted topic stay until they expire", "topic", t.Name, "err", err)
		return
	}
	for _, s := range shells {
		// A journal that failed is loaded again soon: the event must not be lost.
		_, err := s.Do(ctx, group.TopicDeleted{Topic: t.Name, ID: t.ID})
		for errors.Is(err, coordinator.ErrNotCoordinator) || errors.Is(err, coordinator.ErrLoading) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(topicDeletedPause):
			}
			_, err = s.Do(ctx, group.TopicDeleted{Topic: t.Name, ID: t.ID})
		}
	}
}

// topicDeletedPause is the wait before a coordinator is told again.
const topicDeletedPause = 200 * time.Millisecond

// groupCall sends one group request on its way: the common shape of handlers
// that ask one coordinator and answer with its reply, or with a code.
func groupCall[R protocol.Response](b *Broker, groupID string, event any, failed func(code int16) R) protocol.Answer {
	return protocol.Later(func(ctx context.Context) protocol.Response {
		reply, err := b.groups.ask(ctx, groupID, event)
		if err != nil {
			return failed(codeOf(err))
		}
		return reply.(R)
	})
}

// clientHost is how Kafka writes a client's address: Java's InetAddress text.
func clientHost(peer netip.Addr) string { return "/" + peer.Unmap().String() }

// groupStatsWait bounds how long a scrape of the metrics waits for a busy coordinator.
const groupStatsWait = 2 * time.Second
