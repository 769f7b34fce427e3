package broker

import (
	"slices"
	"sync"
	"time"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// groupCluster is a group.Cluster: an image, and the settings of the broker at that time.
type groupCluster struct {
	*metadata.Image
	conf  *config.Config
	usual group.GroupSettings // of groups without settings of their own
	own   sync.Map            // of others, group.GroupSettings by id, worked out when asked for
}

func newGroupCluster(im *metadata.Image, conf *config.Config) *groupCluster {
	c := &groupCluster{Image: im, conf: conf}
	c.usual = c.settings(nil)
	return c
}

func (c *groupCluster) settings(own map[string]string) group.GroupSettings {
	v, _ := c.conf.Group(own) // what cannot be read has its default
	return group.GroupSettings{
		Session: millis(v.Consumer.SessionTimeoutMillis), Heartbeat: millis(v.Consumer.HeartbeatIntervalMillis),
		AssignmentInterval: millis(v.Consumer.AssignmentIntervalMillis),
	}
}

// GroupSettings gives the settings of a group, its own ones within the bounds of the broker.
func (c *groupCluster) GroupSettings(id string) group.GroupSettings {
	own := c.Configs(metadata.Resource{Type: metadata.ResourceGroup, Name: id})
	if len(own) == 0 {
		return c.usual
	}
	if s, ok := c.own.Load(id); ok {
		return s.(group.GroupSettings)
	}
	s := c.settings(own)
	c.own.Store(id, s)
	return s
}

// Racks lists the racks of a partition's replicas.
func (c *groupCluster) Racks(p *metadata.Partition) []string {
	var racks []string
	for _, id := range p.Replicas {
		if b := c.Broker(id); b != nil && b.Rack != nil {
			racks = append(racks, *b.Rack)
		}
	}
	return racks
}

// Version is the offset of the metadata log.
func (c *groupCluster) Version() int64 { return c.Offset }

// metadataChanged tells the coordinators of groups of a new image.
func (g *groups) metadataChanged(im *metadata.Image, created, deleted, grown []*metadata.Topic) {
	shells := g.loaded()
	if len(shells) == 0 {
		return
	}
	e := group.MetadataChanged{Cluster: newGroupCluster(im, g.b.conf.Load()), Created: len(created) > 0}
	for _, topics := range [][]*metadata.Topic{created, deleted, grown} {
		for _, t := range topics {
			e.Changed = append(e.Changed, t.Name)
		}
	}
	for _, s := range shells {
		s.Post(e)
	}
}

// errands does what the coordinator of groups asks for.
func (g *groups) errands(key partitionKey, all []coordinator.Errand) {
	for _, e := range all {
		r := e.(group.ResolveRegexes)
		g.b.wg.Go(func() { g.post(key, g.resolve(r)) })
	}
}

// resolve matches the regular expressions of a group against the topics that the member may describe whose heartbeat
// asked for it.
func (g *groups) resolve(r group.ResolveRegexes) group.RegexesResolved {
	im, asked := g.b.image(), time.Now()
	names := make([]string, 0, im.TopicCount())
	for t := range im.All() {
		names = append(names, t.Name)
	}
	matched := group.MatchRegexes(r.Regexes, names)
	if c, ok := r.Caller.(*protocol.Call); ok {
		for regex, topics := range matched {
			matched[regex] = slices.DeleteFunc(topics, func(topic string) bool { return !g.b.mayTopic(c, OpDescribe, topic) })
		}
	}
	return group.RegexesResolved{Group: r.Group, Matched: matched, Version: im.Offset, Asked: asked}
}
