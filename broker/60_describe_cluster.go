package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/protocol"
)

// endpointBrokers is the EndpointType of a broker listener (KIP-919);
// endpointControllers that of a controller listener.
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

// describeCluster answers DescribeCluster (60), versions 0-2 (KIP-700).
//
// One broker, which is also the controller. Asking a broker listener for
// controllers is MISMATCHED_ENDPOINT_TYPE (v0: INVALID_REQUEST), any other
// type UNSUPPORTED_ENDPOINT_TYPE. v2's IncludeFencedBrokers changes nothing: a
// node that answers is not fenced. No ACL, but the operations need DESCRIBE
// on the cluster.
func (b *Broker) describeCluster(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DescribeClusterRequest)
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.Version = c.Version
	resp.ClusterAuthorizedOperations = operationsNotRequested
	resp.EndpointType = endpointBrokers
	endpoint := int8(endpointBrokers)
	if c.Version >= 1 {
		endpoint = req.EndpointType
	}
	if endpoint != endpointBrokers {
		code, message := kerr.UnsupportedEndpointType, "Unsupported endpoint type "+itoa(int(endpoint))
		if endpoint == endpointControllers {
			code, message = kerr.MismatchedEndpointType, "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
		}
		if c.Version == 0 {
			code = kerr.InvalidRequest
		}
		resp.ErrorCode, resp.ErrorMessage = code.Code, &message
		return protocol.Now(resp)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = 0
		if b.mayCluster(c, OpDescribe) {
			resp.ClusterAuthorizedOperations = b.authorizedOperations(c, ResourceCluster, clusterName)
		}
	}
	resp.ClusterID = b.clusterID
	resp.ControllerID = b.nodeID
	ep := b.endpoint(c.Listener)
	node := kmsg.NewDescribeClusterResponseBroker()
	node.NodeID, node.Host, node.Port, node.Rack = b.nodeID, ep.Host, ep.Port, b.rack
	resp.Brokers = append(resp.Brokers, node)
	return protocol.Now(resp)
}
