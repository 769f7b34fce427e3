package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
)

// codeOf is the only place where an error of the log or of a coordinator's
// shell becomes a Kafka error code. An error it does not know is ours or the
// world's: the client sees UNKNOWN_SERVER_ERROR and the caller logs it.
func codeOf(err error) int16 {
	if err == nil {
		return 0
	}
	if e := (*kerr.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	for _, row := range errorTable() {
		if errors.Is(err, row.err) {
			return row.code.Code
		}
	}
	return kerr.UnknownServerError.Code
}

type errorRow struct {
	err  error
	code *kerr.Error
}

func errorTable() []errorRow {
	return []errorRow{
		{log.ErrOutOfRange, kerr.OffsetOutOfRange},
		{log.ErrTooLarge, kerr.MessageTooLarge},
		{log.ErrLargerThanSegment, kerr.RecordListTooLarge},
		{log.ErrCorrupt, kerr.CorruptMessage},
		{batch.ErrCorrupt, kerr.CorruptMessage},
		{batch.ErrNone, kerr.InvalidRecord},
		{batch.ErrMagic, kerr.InvalidRecord},
		{batch.ErrMany, kerr.InvalidRecord},
		{log.ErrInvalidTimestamp, kerr.InvalidTimestamp},
		{log.ErrInvalidRecord, kerr.InvalidRecord},
		{log.ErrUnsupportedCompression, kerr.UnsupportedCompressionType},
		{log.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
		{log.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
		{log.ErrInvalidTxnState, kerr.InvalidTxnState},
		{log.ErrCoordinatorFenced, kerr.TransactionCoordinatorFenced},
		{log.ErrClosed, kerr.NotLeaderForPartition},
		{errClosing, kerr.NotLeaderForPartition},
		{log.ErrDiskFull, kerr.KafkaStorageError},
		{log.ErrOffline, kerr.KafkaStorageError},
		{log.ErrStorage, kerr.KafkaStorageError},
		{log.ErrNoDirectory, kerr.LogDirNotFound},
		{coordinator.ErrNotCoordinator, kerr.NotCoordinator},
		{coordinator.ErrLoading, kerr.CoordinatorLoadInProgress},
		{coordinator.ErrClosed, kerr.CoordinatorNotAvailable},
		{context.Canceled, kerr.CoordinatorNotAvailable},
		{context.DeadlineExceeded, kerr.RequestTimedOut},
	}
}

// toldError is an error of Kafka with a sentence of its own for the client.
type toldError struct {
	code     *kerr.Error
	sentence string
}

func (e toldError) Error() string { return e.code.Message + ": " + e.sentence }
func (e toldError) Unwrap() error { return e.code }

// messageOf is Kafka's sentence about a batch that cannot be read or verified, nil for all
// other errors: their codes say it.
func messageOf(err error) *string {
	if e := (*batch.UnreadableError)(nil); errors.As(err, &e) {
		return &e.Sentence
	}
	if e := (toldError{}); errors.As(err, &e) {
		return &e.sentence
	}
	return nil
}
