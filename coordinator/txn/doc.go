// Package txn is the transaction coordinator (KIP-98, KIP-360, KIP-890): the state machine of one partition of
// __transaction_state. It says which producer id and epoch belong to a transactional id, which partitions its transaction
// has touched, and whether that is to be committed or aborted. Somebody else writes the markers into those partitions:
// the errand WriteMarkers asks for it, MarkersWritten tells that it is done.
//
//	Empty ──> Ongoing ──> PrepareCommit ──> CompleteCommit ──> Ongoing ...
//	             └──────> PrepareAbort ───> CompleteAbort
//
// A client may hear of Prepare as the end of its transaction: from there on only one end is left, and a load of the journal
// asks for the markers again until they are all written.
package txn
