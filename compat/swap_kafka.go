package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kafkaView is what only Kafka can show so far: that it is the same after Rotpeter had the
// directory says that nothing was lost there.
func (s *swap) kafkaView(ctx context.Context) ([]section, error) {
	return s.look(ctx, []part{
		{"features", (*viewer).features},
		{"quotas", (*viewer).quotas},
		{"SCRAM users", (*viewer).scram},
		{"ACLs", (*viewer).acls},
		{"share groups", (*viewer).shareGroups},
		{"transactions", (*viewer).transactions},
		{"producers of transactions", (*viewer).describeProducers},
	})
}

// features are those of the metadata log. Rotpeter keeps them all, and tells its clients of
// those whose APIs it has.
func (v *viewer) features(s *section) error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "compat", "1"
	kresp, err := v.broker.Request(v.ctx, req)
	if err != nil {
		return err
	}
	for _, f := range kresp.(*kmsg.ApiVersionsResponse).FinalizedFeatures {
		s.add("feature %s %d-%d", f.Name, f.MinVersionLevel, f.MaxVersionLevel)
	}
	slices.Sort(s.lines)
	return nil
}

func (v *viewer) quotas(s *section) error {
	req := kmsg.NewPtrDescribeClientQuotasRequest()
	resp, err := req.RequestWith(v.ctx, v.ref.cl)
	if err != nil {
		return err
	}
	for _, e := range resp.Entries {
		s.addJSON("quota", e)
	}
	slices.Sort(s.lines)
	return nil
}

func (v *viewer) scram(s *section) error {
	resp, err := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest().RequestWith(v.ctx, v.ref.cl)
	if err != nil {
		return err
	}
	for _, r := range resp.Results {
		slices.SortFunc(r.CredentialInfos, func(a, b kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo) int {
			return cmp.Compare(a.Mechanism, b.Mechanism)
		})
		s.addJSON("user", r)
	}
	slices.Sort(s.lines)
	return nil
}

func (v *viewer) acls(s *section) error {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := req.RequestWith(v.ctx, v.ref.cl)
	if err != nil {
		return err
	}
	for _, r := range resp.Resources {
		for _, acl := range r.ACLs {
			s.add("%v %v %s: %s from %s: %v %v", r.ResourceType, r.ResourcePatternType, r.ResourceName, acl.Principal, acl.Host, acl.PermissionType, acl.Operation)
		}
	}
	slices.Sort(s.lines)
	return nil
}

func (v *viewer) newGroups(s *section) error {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{swapNewGroup, swapMemberGroup}
	resp, err := req.RequestWith(v.ctx, v.ref.cl)
	if err != nil {
		return err
	}
	slices.SortFunc(resp.Groups, func(a, b kmsg.ConsumerGroupDescribeResponseGroup) int { return cmp.Compare(a.Group, b.Group) })
	for _, g := range resp.Groups {
		s.addJSON("group", g)
	}
	return nil
}

func (v *viewer) shareGroups(s *section) error {
	req := kmsg.NewPtrShareGroupDescribeRequest()
	req.GroupIDs = []string{swapShareGroup}
	resp, err := req.RequestWith(v.ctx, v.ref.cl)
	if err != nil {
		return err
	}
	s.addJSON("group", resp.Groups)
	offsets := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	g := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
	g.GroupID = swapShareGroup
	offsets.Groups = append(offsets.Groups, g)
	got, err := offsets.RequestWith(v.ctx, v.ref.cl)
	if err != nil {
		return err
	}
	for _, g := range got.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				s.add("group %s starts %s-%d at %d, error %d", g.GroupID, t.Topic, p.Partition, p.StartOffset, p.ErrorCode)
			}
		}
	}
	slices.Sort(s.lines)
	return nil
}

func (v *viewer) transactions(s *section) error {
	kresp, err := v.broker.Request(v.ctx, kmsg.NewPtrListTransactionsRequest())
	if err != nil {
		return err
	}
	listed := kresp.(*kmsg.ListTransactionsResponse)
	slices.SortFunc(listed.TransactionStates, func(a, b kmsg.ListTransactionsResponseTransactionState) int {
		return cmp.Compare(a.TransactionalID, b.TransactionalID)
	})
	req := kmsg.NewPtrDescribeTransactionsRequest()
	for _, t := range listed.TransactionStates {
		s.addJSON("transaction", t)
		req.TransactionalIDs = append(req.TransactionalIDs, t.TransactionalID)
	}
	kresp, err = v.broker.Request(v.ctx, req)
	if err != nil {
		return err
	}
	for _, t := range kresp.(*kmsg.DescribeTransactionsResponse).TransactionStates {
		slices.SortFunc(t.Topics, func(a, b kmsg.DescribeTransactionsResponseTransactionStateTopic) int {
			return cmp.Compare(a.Topic, b.Topic)
		})
		for _, topic := range t.Topics {
			slices.Sort(topic.Partitions)
		}
		s.addJSON("transaction described", t)
	}
	return nil
}

// describeProducers are the producers of topics that Rotpeter does not write to.
func (v *viewer) describeProducers(s *section) error {
	req := kmsg.NewPtrDescribeProducersRequest()
	for topic, partitions := range map[string][]int32{swapTxn: {0, 1}, swapOpen: {0}, swapCleaned: {0}} {
		rt := kmsg.NewDescribeProducersRequestTopic()
		rt.Topic, rt.Partitions = topic, partitions
		req.Topics = append(req.Topics, rt)
	}
	kresp, err := v.broker.Request(v.ctx, req)
	if err != nil {
		return err
	}
	for _, t := range kresp.(*kmsg.DescribeProducersResponse).Topics {
		for _, p := range t.Partitions {
			for _, producer := range p.ActiveProducers {
				s.addJSON(fmt.Sprintf("%s-%d", t.Topic, p.Partition), producer)
			}
		}
	}
	slices.Sort(s.lines)
	return nil
}

// endOpen has Kafka end a transaction that was open while Rotpeter had the directory.
func (s *swap) endOpen(ctx context.Context, i int, how kgo.TransactionEndTry) error {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return err
	}
	defer ref.close()
	before, err := ref.admin.ListCommittedOffsets(ctx, swapOpen)
	if err != nil {
		return err
	}
	if err := s.open[i].EndTransaction(ctx, how); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		after, err := ref.admin.ListCommittedOffsets(ctx, swapOpen)
		if err != nil {
			return err
		}
		was, _ := before.Lookup(swapOpen, 0)
		is, _ := after.Lookup(swapOpen, 0)
		if is.Offset <= was.Offset {
			return fmt.Errorf("the last stable offset was %d and is %d", was.Offset, is.Offset)
		}
		return nil
	})
}

// toolsShow is what Kafka's own command line tools print of it all.
func (s *swap) toolsShow(ctx context.Context) ([]section, error) {
	var out []section
	for _, t := range []struct {
		name, class string
		args        []string
	}{
		{"kafka-acls", kafkaACLs, []string{"--list"}},
		{"kafka-configs of users", kafkaConfigs, []string{"--describe", "--entity-type", "users"}},
		{"kafka-configs of ips", kafkaConfigs, []string{"--describe", "--entity-type", "ips"}},
		{"kafka-consumer-groups", consumerGroups, []string{"--describe", "--offsets", "--group", swapOffsetsGroup}},
	} {
		text, err := s.java.run(ctx, nil, t.class, append([]string{"--bootstrap-server", s.bootstrap}, t.args...)...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		sec := section{name: t.name}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if t.class == consumerGroups && len(f) > 4 {
				f = f[:4] // group, topic, partition, offset: the log's end and the lag go on
			}
			if t.class == kafkaConfigs { // in the order of a hash table
				for i := range f {
					f[i] = strings.TrimSuffix(f[i], ",")
				}
				slices.Sort(f)
			}
			if len(f) > 0 {
				sec.lines = append(sec.lines, strings.Join(f, " "))
			}
		}
		slices.Sort(sec.lines)
		if len(sec.lines) == 0 {
			return nil, errors.New(t.name + " printed nothing")
		}
		out = append(out, sec)
	}
	return out, nil
}

// readOn has the group of the new protocol go on from its commit with Kafka's own consumer.
func (s *swap) readOn(ctx context.Context) error {
	before, err := s.committedBy(ctx, swapNewGroup)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := s.java.run(ctx, nil, consoleConsumer, "--bootstrap-server", s.bootstrap, "--topic", swapPlain, "--group", swapNewGroup,
		"--command-property", "group.protocol=consumer", "--max-messages", "50"); err != nil {
		return err
	}
	after, err := s.committedBy(ctx, swapNewGroup)
	if err == nil && after != before+50 {
		err = fmt.Errorf("it read 50 records and its commits went from %d to %d together", before, after)
	}
	return err
}

// committedBy is the sum of a group's committed offsets.
func (s *swap) committedBy(ctx context.Context, group string) (sum int64, err error) {
	ref, err := newReference(s.bootstrap)
	if err != nil {
		return 0, err
	}
	defer ref.close()
	offsets, err := ref.admin.FetchOffsets(ctx, group)
	for _, o := range offsets.Sorted() {
		sum += o.At
	}
	return sum, err
}
