package inspect

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

// maxDecoded bounds a value that is decoded for printing: as JSON it takes up to fifty
// times as much.
const maxDecoded = 2 << 20

// segment prints a segment, or a snapshot of the metadata log. In text the lines are those
// of kafka-dump-log.
func (d *dumper) segment(as Kind) error {
	if topic, _, ok := log.PartitionOf(filepath.Base(filepath.Dir(d.file))); ok && as == KindPlain {
		as = kindOf(topic)
	}
	if d.o.As != nil {
		as = *d.o.As
	}
	f, size, err := open(d.o.FS, d.file)
	if err != nil {
		return err
	}
	r := &d.tools.reader
	r.reset(f, size)
	for d.werr == nil {
		e, err := r.next()
		if err == io.EOF {
			break
		}
		if errors.Is(err, errBroken) {
			err = fmt.Errorf("%d bytes at the end, from byte %d on, are not whole batches: %w", size-r.pos, r.pos, err)
		}
		if err == nil {
			err = d.batch(e, as)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// batch prints one batch.
func (d *dumper) batch(e *entry, as Kind) error {
	var fields []kv
	valid, kind := e.wrong == nil, "CreateTime"
	if e.magic < batch.Magic {
		codec, l := e.legacy.Codec(), &e.legacy
		if l.Magic == 0 {
			kind = "NoTimestampType"
		} else if l.LogAppendTime() {
			kind = "LogAppendTime"
		}
		fields = []kv{{"offset", l.Offset}, {"position", e.pos}, {kind, l.Timestamp}, {"size", e.size}, {"magic", e.magic}, {"compresscodec", codec.String()}, {"crc", l.CRC}, {"isvalid", valid}}
	} else {
		h := &e.h
		if h.LogAppendTime() {
			kind = "LogAppendTime"
		}
		horizon := d.nothing()
		if at, ok := h.DeleteHorizon(); ok {
			horizon = at
		}
		fields = []kv{
			{"baseOffset", h.BaseOffset}, {"lastOffset", h.LastOffset()}, {"count", h.Count}, {"baseSequence", h.BaseSequence}, {"lastSequence", h.LastSequence()},
			{"producerId", h.ProducerID}, {"producerEpoch", h.ProducerEpoch}, {"partitionLeaderEpoch", h.LeaderEpoch}, {"isTransactional", h.Transactional()},
			{"isControl", h.Control()}, {"deleteHorizonMs", horizon}, {"position", e.pos}, {kind, h.MaxTimestamp}, {"size", e.size}, {"magic", e.magic},
			{"compresscodec", h.Codec().String()}, {"crc", h.CRC}, {"isvalid", valid},
		}
	}
	d.line("batch", "", fields...)
	if !d.o.Records || !valid {
		return nil
	}
	if e.whole == nil {
		return fmt.Errorf("the batch at byte %d has %d bytes, the records of at most %d are printed", e.pos, e.size, maxBatchBytes)
	}
	if err := d.recordsOf(e, as, kind); err != nil {
		return fmt.Errorf("the records of the batch at byte %d: %w", e.pos, err)
	}
	return nil
}

// errWrite ends a walk over records when nobody reads what is printed.
var errWrite = errors.New("nobody reads")

func (d *dumper) recordsOf(e *entry, as Kind, timeKind string) error {
	if e.magic < batch.Magic {
		return d.tools.decoder.LegacyMessages(&e.legacy, maxWholeBytes, func(m batch.Legacy) error {
			d.line("record", "| ", d.keyValue([]kv{{"offset", m.Offset}, {timeKind, m.Timestamp}, {"keySize", sizeOf(m.Key)}, {"valueSize", sizeOf(m.Value)}}, m.Key, m.Value)...)
			return d.stop()
		})
	}
	h := &e.h
	return d.tools.decoder.Records(e.whole, maxWholeBytes, func(r batch.Record) error {
		timestamp, sequence := h.BaseTimestamp+r.TimestampDelta, h.BaseSequence
		if h.LogAppendTime() {
			timestamp = h.MaxTimestamp
		}
		if sequence != batch.NoSequence {
			sequence = batch.AddSequence(sequence, r.OffsetDelta)
		}
		fields := []kv{{"offset", h.BaseOffset + int64(r.OffsetDelta)}, {timeKind, timestamp}, {"keySize", sizeOf(r.Key)}, {"valueSize", sizeOf(r.Value)}, {"sequence", sequence}}
		fields = d.headers(fields, r.Headers)
		switch {
		case h.Control():
			fields = d.control(fields, r.Key, r.Value)
		case as != KindPlain && len(r.Value) <= maxDecoded:
			fields = d.decoded(fields, as, r.Key, r.Value)
		default:
			fields = d.keyValue(fields, r.Key, r.Value)
		}
		d.line("record", "| ", fields...)
		return d.stop()
	})
}

func (d *dumper) stop() error {
	if d.werr != nil {
		return errWrite
	}
	return nil
}

// sizeOf is -1 for null, as Kafka counts.
func sizeOf(b []byte) int {
	if b == nil {
		return -1
	}
	return len(b)
}

// headers adds the headers of a record: in text their keys.
func (d *dumper) headers(fields []kv, headers []batch.RecordHeader) []kv {
	if !d.o.JSON {
		var keys []string
		for _, h := range headers {
			keys = append(keys, visible(h.Key))
		}
		return append(fields, kv{"headerKeys", "[" + strings.Join(keys, ",") + "]"})
	}
	list := []json.RawMessage{}
	for _, h := range headers {
		one := dumper{o: d.o}
		b := []byte{'{'}
		for i, f := range one.keyValue(nil, h.Key, h.Value) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(append(appendQuoted(b, f.name), ':'), f.value)
		}
		list = append(list, append(b, '}'))
	}
	return append(fields, kv{"headers", list})
}

// visible is text as it is, and other bytes as hex.
func visible(b []byte) string {
	if printable(b) {
		return string(b)
	}
	return fmt.Sprintf("0x%x", b)
}

// keyValue adds the key and the value of a client's record: text as it is, quoted, other
// bytes as hex, in JSON as keyBase64. A null key is left out, a null value of text, too.
func (d *dumper) keyValue(fields []kv, key, value []byte) []kv {
	for _, f := range []struct {
		name, text string
		b          []byte
	}{{"key", "key", key}, {"value", "payload", value}} {
		switch {
		case d.o.JSON && f.b == nil:
			fields = append(fields, kv{f.name, nil})
		case f.b == nil:
		case d.o.JSON && printable(f.b):
			fields = append(fields, kv{f.name, string(f.b)})
		case d.o.JSON:
			fields = append(fields, kv{f.name + "Base64", base64.StdEncoding.EncodeToString(f.b)})
		default:
			fields = append(fields, kv{f.text, json.RawMessage(appendText(nil, f.b))})
		}
	}
	return fields
}

// decoded adds the key and value of a record of an internal topic. One that cannot be
// decoded is printed as bytes, with the reason.
func (d *dumper) decoded(fields []kv, as Kind, key, value []byte) []kv {
	k, v, err := d.tools.records.json(as, key, value)
	if err != nil {
		return append(d.keyValue(fields, key, value), kv{"error", err.Error()})
	}
	payload := "payload"
	if d.o.JSON {
		payload = "value"
	}
	if k != nil {
		fields = append(fields, kv{"key", json.RawMessage(k)})
	}
	switch {
	case v != nil:
		return append(fields, kv{payload, json.RawMessage(v)})
	case d.o.JSON:
		return append(fields, kv{payload, nil})
	}
	return append(fields, kv{payload, "<DELETE>"})
}

// control adds what a control record says.
func (d *dumper) control(fields []kv, key, value []byte) []kv {
	c, err := decodeControl(key, value)
	if err != nil {
		return append(d.keyValue(fields, key, value), kv{"error", err.Error()})
	}
	name := controlNames[c.kind]
	if c.kind < metadata.ControlLeaderChange {
		return append(fields, kv{"endTxnMarker", name}, kv{"coordinatorEpoch", c.epoch})
	}
	return append(fields, kv{name, json.RawMessage(fieldsJSON(reflect.ValueOf(c.value)))})
}
