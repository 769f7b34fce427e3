package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// updateFailed stands in front of the reason why an update is refused.
const updateFailed = "The update failed for all features since the following feature had an error: "

// updateFeatures answers UpdateFeatures (57), versions 0-2 (KIP-584, KIP-778): the finalized
// levels of features change, all that are named or none. v1 brought the upgrade type
// and validateOnly; up to v1 an answer without an error has a result for each feature.
// In v0 AllowDowngrade means nothing, as in Kafka: there are upgrades only.
//
// The answer comes when the levels are durable and in force: requests, records of the
// metadata log and coordinators follow them. The timeout is not looked at, as in Kafka.
// Features whose APIs are not served (share.version, streams.version) cannot be raised.
// ACL: ALTER on the cluster (31).
func (b *Broker) updateFeatures(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.UpdateFeaturesRequest)
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	resp.Version = c.Version
	failed := func(code int16, message string) protocol.Response {
		resp.ErrorCode, resp.ErrorMessage = code, &message
		return resp
	}
	if !b.mayCluster(c, OpAlter) {
		return protocol.Now(failed(kerr.ClusterAuthorizationFailed.Code, "Cluster authorization failed."))
	}
	e := metadata.UpdateFeatures{ValidateOnly: req.ValidateOnly}
	for _, u := range req.FeatureUpdates {
		update := metadata.FeatureUpdate{Name: u.Feature, Level: u.MaxVersionLevel, Type: metadata.UpgradeType(u.UpgradeType)}
		if c.Version == 0 {
			update.Type = metadata.Upgrade
		}
		e.Updates = append(e.Updates, update)
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		reply, err := b.askMetadata(ctx, e)
		if err != nil {
			code := codeOf(err)
			return failed(code, kerr.TypedErrorForCode(code).Description)
		}
		if f := reply.(metadata.FeaturesUpdated).Failure; f.Code != 0 {
			return failed(f.Code, updateFailed+*f.Message)
		}
		if c.Version <= 1 {
			for _, u := range e.Updates {
				r := kmsg.NewUpdateFeaturesResponseResult()
				r.Feature, r.ErrorMessage = u.Name, ptr("NONE")
				resp.Results = append(resp.Results, r)
			}
		}
		return resp
	})
}
