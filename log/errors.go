package log

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/rotpeter/rotpeter/log/batch"
)

// Errors of the log, for errors.Is. Those of the first group are the client's
// fault, each with the Kafka code it stands for; the rest are the world's.
var (
	ErrOutOfRange             = errors.New("offset out of range")                           // OFFSET_OUT_OF_RANGE
	ErrTooLarge               = errors.New("record batch is larger than max.message.bytes") // MESSAGE_TOO_LARGE
	ErrLargerThanSegment      = errors.New("record batch is larger than segment.bytes")     // RECORD_LIST_TOO_LARGE
	ErrCorrupt                = errors.New("corrupt message")                               // CORRUPT_MESSAGE
	ErrInvalidRecord          = errors.New("invalid record")                                // INVALID_RECORD
	ErrInvalidTimestamp       = errors.New("invalid timestamp")                             // INVALID_TIMESTAMP
	ErrUnsupportedCompression = errors.New("unsupported compression type")                  // UNSUPPORTED_COMPRESSION_TYPE
	ErrOutOfOrderSequence     = errors.New("out of order sequence number")                  // OUT_OF_ORDER_SEQUENCE_NUMBER
	ErrInvalidProducerEpoch   = errors.New("invalid producer epoch")                        // INVALID_PRODUCER_EPOCH
	ErrInvalidTxnState        = errors.New("record was not part of an ongoing transaction") // INVALID_TXN_STATE
	ErrCoordinatorFenced      = errors.New("marker of an earlier transaction coordinator")  // TRANSACTION_COORDINATOR_FENCED

	// ErrStorage: this log cannot be read or written, now or at all: a failed read
	// or write, or durable data that is damaged. KAFKA_STORAGE_ERROR.
	ErrStorage = errors.New("storage error")
	// ErrDamaged is the ErrStorage of a range of offsets that was found damaged: the operator was told then.
	ErrDamaged = fmt.Errorf("%w: damaged", ErrStorage)
	// ErrDiskFull: there is no space; nothing was changed, and it heals by itself.
	ErrDiskFull = errors.New("disk is full")
	// ErrOffline: the directory failed to make data durable and takes nothing more.
	ErrOffline = errors.New("log directory is offline")
	// ErrClosed: the store was closed or the log deleted.
	ErrClosed = errors.New("log is closed")
)

// RecordError says what is wrong with one record of a batch.
type RecordError struct {
	Index   int32 // place in the batch, from 0
	Message string
}

// maxRecordErrors bounds the list: a batch may hold a hundred thousand records.
const maxRecordErrors = 1000

// RecordErrors refuses a batch because of some of its records, in their order; at
// most 1000 are listed. It is ErrInvalidTimestamp or ErrInvalidRecord.
type RecordErrors struct {
	Records []RecordError
	Kind    error
}

// Error is Kafka's sentence (LogValidator.processRecordErrors).
func (e *RecordErrors) Error() string {
	if e.Kind == ErrInvalidTimestamp {
		return "One or more records have been rejected due to invalid timestamp"
	}
	var first []string
	for _, r := range e.Records[:min(3, len(e.Records))] {
		first = append(first, fmt.Sprintf("RecordError(batchIndex=%d, message='%s')", r.Index, r.Message))
	}
	return fmt.Sprintf("One or more records have been rejected due to %d record errors in total, and only showing the first three errors at most: [%s]",
		len(e.Records), strings.Join(first, ", "))
}

// Unwrap gives ErrInvalidTimestamp or ErrInvalidRecord.
func (e *RecordErrors) Unwrap() error { return e.Kind }

// refusal turns what is wrong with a batch into an error of the log.
func refusal(err error) error {
	kind := ErrInvalidRecord
	switch {
	case err == nil:
		return nil
	case errors.Is(err, batch.ErrCorrupt):
		kind = ErrCorrupt
	case errors.Is(err, batch.ErrTooLarge):
		kind = ErrTooLarge
	case errors.Is(err, batch.ErrCodec):
		kind = ErrUnsupportedCompression
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// worldly wraps an error of the file system: full, or broken.
func worldly(what string, err error) error {
	kind := ErrStorage
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		kind = ErrDiskFull
	}
	return fmt.Errorf("%w: %s: %w", kind, what, err)
}
