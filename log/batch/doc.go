// Package batch is a v2 record batch (magic 2, KIP-98) as bytes: parse, check,
// walk, build and rewrite. It does no I/O and keeps no state of its own.
//
//	 0 base offset i64          | 21 attributes i16       | 43 producer id i64
//	 8 length i32 (after it)    | 23 last offset delta i32| 51 producer epoch i16
//	12 partition leader epoch   | 27 base timestamp i64   | 53 base sequence i32
//	16 magic i8 = 2             | 35 max timestamp i64    | 57 record count i32
//	17 crc u32 (from 21 on)     |                         | 61 records
//
// The base offset, the length and the leader epoch are outside the CRC, so the
// log sets them in place; attributes and maximum timestamp are inside.
//
// Bytes of clients are hostile until Check and Decoder.Scan have passed. Every
// walk has a limit on the decompressed size and holds a small window only, except
// where a function says that it decompresses the whole batch.
//
// Message formats 0 and 1, which Kafka 4 never writes, are read only: see Legacy.
package batch
