package batch

import "errors"

// UnreadableError is an ErrCorrupt that Kafka finds before it has a batch at all:
// the length or the magic cannot be. Sentence is Kafka's (ByteBufferLogInputStream).
type UnreadableError struct{ Sentence string }

func (e *UnreadableError) Error() string { return ErrCorrupt.Error() + ": " + e.Sentence }

// Unwrap gives ErrCorrupt.
func (e *UnreadableError) Unwrap() error { return ErrCorrupt }

// What can be wrong with a batch. The sentinels are the order in which Kafka
// finds them (ProduceRequest.validateRecords, UnifiedLog.append, LogValidator).
var (
	// ErrNone: there is no complete batch.
	ErrNone = errors.New("no complete record batch")
	// ErrCorrupt: length, magic or CRC cannot be, so nothing else can be believed.
	ErrCorrupt = errors.New("record batch is corrupt")
	// ErrMagic: a message format of Kafka before 0.11.
	ErrMagic = errors.New("record batch has message format version")
	// ErrMany: more than one batch where one is allowed.
	ErrMany = errors.New("more than one record batch")
	// ErrBaseOffset: a client's batch must have base offset 0.
	ErrBaseOffset = errors.New("the base offset of the record batch should be 0")
	// ErrTooLarge: the batch is larger than the topic allows.
	ErrTooLarge = errors.New("the record batch is larger than the maximum")
	// ErrCount: offset range and record count do not agree.
	ErrCount = errors.New("the record batch has an inconsistent record count")
	// ErrControl: clients may not write control batches.
	ErrControl = errors.New("clients are not allowed to write control records")
	// ErrSequence: a producer id without a sequence number.
	ErrSequence = errors.New("the record batch has a producer id and an invalid sequence number")
	// ErrCodec: attributes name a compression that does not exist.
	ErrCodec = errors.New("unknown compression type")
	// ErrRecord: the records are not what the header says, or do not decompress.
	ErrRecord = errors.New("invalid record")
	// ErrExpands: the records decompress to more than the limit.
	ErrExpands = errors.New("the records decompress to more than the limit")
)
