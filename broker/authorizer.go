package broker

import (
	"math"

	"github.com/rotpeter/rotpeter/protocol"
)

// Operation is an AclOperation code of the wire protocol (KIP-140).
type Operation int8

// The operations that Kafka's authorizers know, with their wire codes.
const (
	OpRead            Operation = 3
	OpWrite           Operation = 4
	OpCreate          Operation = 5
	OpDelete          Operation = 6
	OpAlter           Operation = 7
	OpDescribe        Operation = 8
	OpClusterAction   Operation = 9
	OpDescribeConfigs Operation = 10
	OpAlterConfigs    Operation = 11
	OpIdempotentWrite Operation = 12
	OpTwoPhaseCommit  Operation = 15
)

// ResourceType is a ResourceType code of the wire protocol (KIP-140).
type ResourceType int8

// The resource types that handlers ask about, with their wire codes.
const (
	ResourceTopic           ResourceType = 2
	ResourceGroup           ResourceType = 3
	ResourceCluster         ResourceType = 4
	ResourceTransactionalID ResourceType = 5
)

// clusterName is the one name a cluster resource has in Kafka's ACLs.
const clusterName = "kafka-cluster"

// Authorizer decides whether the caller may do op on the named resource.
// It must be quick and must not block: handlers ask it on the request path.
type Authorizer interface {
	Authorize(c *protocol.Call, op Operation, t ResourceType, name string) bool
}

// AllowAll lets everybody do everything: Kafka's behaviour when
// authorizer.class.name is empty.
type AllowAll struct{}

// Authorize always agrees.
func (AllowAll) Authorize(*protocol.Call, Operation, ResourceType, string) bool { return true }

func (b *Broker) mayTopic(c *protocol.Call, op Operation, topic string) bool {
	return b.authorizer.Authorize(c, op, ResourceTopic, topic)
}

func (b *Broker) mayGroup(c *protocol.Call, op Operation, group string) bool {
	return b.authorizer.Authorize(c, op, ResourceGroup, group)
}

func (b *Broker) mayCluster(c *protocol.Call, op Operation) bool {
	return b.authorizer.Authorize(c, op, ResourceCluster, clusterName)
}

// mayIdempotentWrite is the rule for a producer id without a transactional id:
// IDEMPOTENT_WRITE on the cluster, or WRITE on any topic (KIP-679).
func (b *Broker) mayIdempotentWrite(c *protocol.Call) bool {
	if b.mayCluster(c, OpIdempotentWrite) {
		return true
	}
	for _, t := range b.image().Topics() {
		if b.mayTopic(c, OpWrite, t.Name) {
			return true
		}
	}
	return false
}

// operationsNotRequested is what an AuthorizedOperations field holds when the
// client did not ask for it (apis.md W16).
const operationsNotRequested = int32(math.MinInt32)

// supportedOperations lists, in code order, what Kafka reports per resource type.
func supportedOperations(t ResourceType) []Operation {
	switch t {
	case ResourceTopic:
		return []Operation{OpRead, OpWrite, OpCreate, OpDelete, OpAlter, OpDescribe, OpDescribeConfigs, OpAlterConfigs}
	case ResourceGroup:
		return []Operation{OpRead, OpDelete, OpDescribe, OpDescribeConfigs, OpAlterConfigs}
	case ResourceCluster:
		return []Operation{OpCreate, OpAlter, OpDescribe, OpClusterAction, OpDescribeConfigs, OpAlterConfigs, OpIdempotentWrite}
	}
	return nil
}

// authorizedOperations is the bit field of KIP-430: one bit per operation code
// that the caller may do on the resource.
func (b *Broker) authorizedOperations(c *protocol.Call, t ResourceType, name string) int32 {
	var bits int32
	for _, op := range supportedOperations(t) {
		if b.authorizer.Authorize(c, op, t, name) {
			bits |= 1 << op
		}
	}
	return bits
}
