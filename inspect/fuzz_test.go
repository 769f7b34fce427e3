package inspect

import (
	"io"
	"path/filepath"
	"testing"
)

// fuzzed are files that take the place of one another, one for each parser.
func fuzzed() []string {
	return []string{
		"plain-0/" + segmentFile(26, logSuffix), "plain-0/" + segmentFile(26, indexSuffix), "plain-0/" + segmentFile(26, timeIndexSuffix),
		"txn-0/" + segmentFile(22, txnIndexSuffix), "txn-0/" + segmentFile(22, snapshotSuffix), "txn-0/" + segmentFile(22, logSuffix),
		"__consumer_offsets-0/" + segmentFile(0, logSuffix), metadataDir + "/" + segmentFile(0, logSuffix),
		metadataDir + "/00000000000000000004-0000000003.checkpoint", metadataDir + "/" + quorumStateFile,
		"plain-0/" + epochFile, "plain-0/" + partitionFile, "old-0/" + segmentFile(0, logSuffix),
		metaPropertiesFile, recoveryPointFile, cleanerFile, cleanShutdownFile, bootstrapFile,
	}
}

// Whatever is in a file, check and dump end with findings or an error.
func FuzzFiles(f *testing.F) {
	r := newRig(f)
	names := fuzzed()
	whole := map[string][]byte{}
	for i, name := range names {
		whole[name] = r.get(name)
		f.Add(byte(i), whole[name])
		f.Add(byte(i), whole[name][:len(whole[name])*2/3])
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		r.t = t
		name := names[int(which)%len(names)]
		r.put(name, b)
		r.check()
		for _, o := range []DumpOptions{{FS: r.fs}, {FS: r.fs, Records: true}, {FS: r.fs, Records: true, JSON: true}} {
			_ = Dump(io.Discard, o, filepath.Join(r.dir, name))
		}
		r.put(name, whole[name])
	})
}

// A record of an internal topic is decoded or refused, and what is printed is JSON.
func FuzzRecords(f *testing.F) {
	f.Add(byte(KindOffsets), []byte{0, 1, 0, 1, 'g', 0, 1, 't', 0, 0, 0, 0}, []byte{0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Add(byte(KindOffsets), []byte{0, 2, 0, 1, 'g'}, []byte{0, 3, 0, 8, 'c', 'o', 'n', 's', 'u', 'm', 'e', 'r', 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Add(byte(KindTransactions), []byte{0, 0, 0, 1, 't'}, []byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	f.Add(byte(KindMetadata), []byte(nil), []byte{1, 12, 0, 2, 'm', 0, 1, 0})
	var r recordReader
	f.Fuzz(func(t *testing.T, kind byte, key, value []byte) {
		k := Kind(kind % 5)
		if k == KindPlain {
			_, _ = decodeControl(key, value)
			return
		}
		quiet := r.record(k, key, value)
		keyJSON, valueJSON, err := r.json(k, key, value)
		if (quiet == nil) != (err == nil) {
			t.Fatalf("checked: %v, decoded: %v", quiet, err)
		}
		for _, b := range [][]byte{keyJSON, valueJSON} {
			if err == nil && b != nil && !valid(b) {
				t.Fatalf("not JSON: %s", b)
			}
		}
	})
}
