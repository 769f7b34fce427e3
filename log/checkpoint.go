package log

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// Files of the store's directory, as Kafka's LogManager names them.
const (
	recoveryPointFile = "recovery-point-offset-checkpoint"
	logStartFile      = "log-start-offset-checkpoint"
	highWatermarkFile = "replication-offset-checkpoint"
	cleanerFile       = "cleaner-offset-checkpoint"
	cleanShutdownFile = ".kafka_cleanshutdown"
	lockFile          = ".lock"
	syncFailedFile    = ".rotpeter_sync_failed" // ours: see Store.fail
	epochFile         = "leader-epoch-checkpoint"
	metadataFile      = "partition.metadata"
)

// maxCheckpointBytes bounds a checkpoint: a line of 300 bytes for each of 200,000 partitions.
const maxCheckpointBytes = 64 << 20

// place names a partition.
type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return p.topic + "-" + strconv.Itoa(int(p.partition)) }

func (p place) less(q place) bool {
	if p.topic != q.topic {
		return p.topic < q.topic
	}
	return p.partition < q.partition
}

// formatOffsets writes an offset checkpoint (OffsetCheckpointFile): version 0, the
// number of entries, then "topic partition offset" per line.
func formatOffsets(offsets map[place]int64) []byte {
	places := sortedPlaces(offsets)
	b := fmt.Appendf(nil, "0\n%d\n", len(places))
	for _, p := range places {
		b = fmt.Appendf(b, "%s %d %d\n", p.topic, p.partition, offsets[p])
	}
	return b
}

// sortedPlaces are the keys in order.
func sortedPlaces(offsets map[place]int64) []place {
	places := make([]place, 0, len(offsets))
	for p := range offsets {
		places = append(places, p)
	}
	sort.Slice(places, func(i, j int) bool { return places[i].less(places[j]) })
	return places
}

// parseOffsets reads an offset checkpoint. An empty file has no entries.
func parseOffsets(b []byte) (map[place]int64, error) {
	offsets := map[place]int64{}
	err := checkpointRows(b, 3, func(r []string) error {
		partition, err1 := strconv.ParseInt(r[1], 10, 32)
		offset, err2 := strconv.ParseInt(r[2], 10, 64)
		if err1 != nil || err2 != nil || partition < 0 || offset < 0 {
			return fmt.Errorf("checkpoint has a wrong line %q", strings.Join(r, " "))
		}
		offsets[place{r[0], int32(partition)}] = offset
		return nil
	})
	if err != nil {
		return nil, err
	}
	return offsets, nil
}

// checkpointRows visits a checkpoint's lines, split into their fields (CheckpointFile).
func checkpointRows(b []byte, fields int, visit func([]string) error) error {
	if len(b) == 0 {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) < 2 || lines[0] != "0" {
		return errors.New("checkpoint does not begin with version 0 and a count")
	}
	count, err := strconv.Atoi(lines[1])
	if err != nil || count != len(lines)-2 {
		return fmt.Errorf("checkpoint says %q entries and has %d", lines[1], len(lines)-2)
	}
	for _, line := range lines[2:] {
		r := strings.Fields(line)
		if len(r) != fields {
			return fmt.Errorf("checkpoint has a wrong line %q", line)
		}
		if err := checkSeal(line); err != nil {
			return err
		}
		if err := visit(r); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile puts b in the place of the file: temporary file, sync, rename. The
// new name is durable after SyncDir.
func replaceFile(fsys vfs.FS, name string, b []byte) error {
	temporary := name + ".tmp"
	if err := writeFile(fsys, temporary, b, true); err != nil {
		return err
	}
	return fsys.Rename(temporary, name)
}

// writeFile makes the file hold b and nothing else.
func writeFile(fsys vfs.FS, name string, b []byte, durable bool) (err error) {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if len(b) > 0 {
		if _, err := f.WriteAt(b, 0); err != nil {
			return err
		}
	}
	if durable {
		return f.Sync()
	}
	return nil
}

// replaceDurably is replaceFile with the directory synced.
func replaceDurably(fsys vfs.FS, name string, b []byte) error {
	if err := replaceFile(fsys, name, b); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	return nil
}

// metadataSeal begins the third line of our partition.metadata, which Kafka does not read: a checksum
// of the two before. An id that goes wrong would have the directory set aside as another topic's.
const metadataSeal = "rotpeter_crc32c: "

// formatMetadata is the content of partition.metadata (PartitionMetadataFile).
func formatMetadata(id [16]byte) []byte {
	text := "version: 0\ntopic_id: " + formatID(id)
	return []byte(text + "\n" + sealOfMetadata(text))
}

func sealOfMetadata(text string) string {
	return fmt.Sprintf("%s%08x", metadataSeal, crc32.Checksum([]byte(text), castagnoli))
}

// parseMetadata reads a topic id from partition.metadata. Kafka's has no third line. An error also if the
// file is not what its checksum says.
func parseMetadata(b []byte) (id [16]byte, err error) {
	version, rest, _ := strings.Cut(string(b), "\n")
	topic, sealed, _ := strings.Cut(rest, "\n")
	text, ok := strings.CutPrefix(strings.TrimSpace(topic), "topic_id:")
	if strings.TrimSpace(version) != "version: 0" || !ok {
		return id, errors.New("partition.metadata is not of version 0")
	}
	if sealed = strings.TrimSpace(sealed); sealed != "" && sealed != sealOfMetadata(version+"\n"+topic) {
		return id, errors.New("partition.metadata is not what its checksum says; if its topic_id is right, take the line of the checksum away")
	}
	return parseID(strings.TrimSpace(text))
}

// sealBits is how long a line's seal is.
const sealBits = 16

// sealLines appends to each entry of an offset checkpoint a checksum of the line, in spaces and tabs that
// Kafka, which splits lines at white space, does not see. A digit that goes wrong in a log
// start would have segments deleted.
func sealLines(checkpoint []byte) []byte {
	var b []byte
	for i, line := range strings.SplitAfter(string(checkpoint), "\n") {
		text, whole := strings.CutSuffix(line, "\n")
		if i < 2 || !whole { // version and count
			b = append(b, line...)
			continue
		}
		b = append(append(append(b, text...), seal(text)...), '\n')
	}
	return b
}

func seal(line string) []byte {
	sum := crc32.Checksum([]byte(line), castagnoli)
	b := make([]byte, sealBits)
	for i := range b {
		b[i] = " \t"[sum>>i&1]
	}
	return b
}

// checkSeal finds a line that is not what its seal says. Kafka's lines have none.
func checkSeal(line string) error {
	text := strings.TrimRightFunc(line, unicode.IsSpace)
	if text != line && line[len(text):] != string(seal(text)) {
		return fmt.Errorf("the line %q is damaged: correct it and take the white space at its end away", text)
	}
	return nil
}
