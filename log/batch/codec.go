package batch

import "strconv"

// Codec is how the records of a batch are compressed.
type Codec int8

// The compression types of the batch attributes.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// codecNames are the values of compression.type.
var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String returns Kafka's name of the codec.
func (c Codec) String() string {
	if c < 0 || int(c) >= len(codecNames) {
		return "codec " + strconv.Itoa(int(c))
	}
	return codecNames[c]
}

// ParseCodec finds a codec by Kafka's name.
func ParseCodec(name string) (Codec, bool) {
	for i, n := range codecNames {
		if n == name {
			return Codec(i), true
		}
	}
	return None, false
}
