package broker

import (
	"context"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// softwarePattern is what KIP-511 allows in ClientSoftwareName and -Version.
const softwarePattern = `^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`

// apiVersions answers ApiVersions (18), versions 0-4 (KIP-35, KIP-511, KIP-584).
//
// An unknown version gets the v0 answer with error 35 and only its own range.
// v3 leaves out supported features whose minimum is 0 (KAFKA-17011); finalized
// features at level 0 are left out. No ACL: it is open before login.
func (b *Broker) apiVersions() func(context.Context, *protocol.Call) protocol.Answer {
	software := regexp.MustCompile(softwarePattern)
	return func(_ context.Context, c *protocol.Call) protocol.Answer {
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.Version = c.Version
		if c.Req == nil {
			resp.Version = 0
			resp.ErrorCode = kerr.UnsupportedVersion.Code
			for _, r := range b.rows {
				if r.Key == c.Key {
					resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: r.Key, MinVersion: r.AdvertisedMin, MaxVersion: r.Max})
				}
			}
			return protocol.Now(resp)
		}
		req := c.Req.(*kmsg.ApiVersionsRequest)
		if c.Version >= 3 && (!software.MatchString(req.ClientSoftwareName) || !software.MatchString(req.ClientSoftwareVersion)) {
			resp.ErrorCode = kerr.InvalidRequest.Code
			return protocol.Now(resp)
		}
		for _, r := range b.rows {
			resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: r.Key, MinVersion: r.AdvertisedMin, MaxVersion: r.Max})
		}
		b.addFeatures(resp)
		return protocol.Now(resp)
	}
}

func (b *Broker) addFeatures(resp *kmsg.ApiVersionsResponse) {
	if resp.Version < 3 {
		return
	}
	im := b.image()
	resp.FinalizedFeaturesEpoch = max(im.Offset, 0)
	for _, f := range metadata.Features() {
		if f.Unserved {
			continue
		}
		if f.Min > 0 || resp.Version >= 4 {
			resp.SupportedFeatures = append(resp.SupportedFeatures, kmsg.ApiVersionsResponseSupportedFeature{Name: f.Name, MinVersion: f.Min, MaxVersion: f.Max})
		}
		level := im.Feature(f.Name)
		if f.Name == metadata.FeatureKRaftVersion {
			level = im.Quorum.Version
		}
		if level > 0 {
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, kmsg.ApiVersionsResponseFinalizedFeature{Name: f.Name, MinVersionLevel: level, MaxVersionLevel: level})
		}
	}
}
