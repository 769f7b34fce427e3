package broker

import (
	"context"
	"regexp"
	"sort"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/protocol"
)

// listTransactions answers ListTransactions (66), versions 0-2 (KIP-664); v1 brought the filter by duration (KIP-994), v2
// by a regular expression for the transactional id (KIP-1152).
// ACL: DESCRIBE on each transactional id (53); others are left out.
func (b *Broker) listTransactions(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.ListTransactionsRequest)
	resp := kmsg.NewPtrListTransactionsResponse()
	resp.Version = c.Version
	e := txn.List{States: req.StateFilters, ProducerIDs: req.ProducerIDFilters, LongerThan: -1}
	if c.Version >= 1 && req.DurationFilterMillis >= 0 {
		e.LongerThan = millis(req.DurationFilterMillis)
	}
	if pattern := text(req.TransactionalIDPattern); pattern != "" {
		re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
		if _, bad := regexp.Compile(pattern); err != nil || bad != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			return protocol.Now(resp)
		}
		e.Match = re.MatchString
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp.UnknownStateFilters = txn.UnknownStates(req.StateFilters)
		shells, err := b.txns.all()
		if err != nil {
			b.logStorage("list transactions", err)
			resp.ErrorCode = codeOf(err)
			return resp
		}
		for _, s := range shells {
			reply, err := s.Do(ctx, e)
			if err != nil {
				resp.TransactionStates, resp.ErrorCode = nil, codeOf(err)
				return resp
			}
			for _, x := range reply.([]txn.Listed) {
				if b.mayTransaction(c, OpDescribe, x.TransactionalID) {
					ts := kmsg.NewListTransactionsResponseTransactionState()
					ts.TransactionalID, ts.ProducerID, ts.TransactionState = x.TransactionalID, x.ProducerID, x.State.String()
					resp.TransactionStates = append(resp.TransactionStates, ts)
				}
			}
		}
		sort.Slice(resp.TransactionStates, func(i, j int) bool {
			return resp.TransactionStates[i].TransactionalID < resp.TransactionStates[j].TransactionalID
		})
		return resp
	})
}
