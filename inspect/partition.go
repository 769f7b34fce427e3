package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

// Suffixes of the files of a partition (LogFileUtils).
const (
	logSuffix        = ".log"
	indexSuffix      = ".index"
	timeIndexSuffix  = ".timeindex"
	txnIndexSuffix   = ".txnindex"
	snapshotSuffix   = ".snapshot"
	checkpointSuffix = ".checkpoint"

	epochFile       = "leader-epoch-checkpoint"
	partitionFile   = "partition.metadata"
	quorumStateFile = "quorum-state"
)

// answer is yes, no or unknown.
type answer int8

const (
	unknown answer = iota
	yes
	no
)

// facts are what is known about a partition from outside its directory.
type facts struct {
	around  bool // the data directory around it was read
	clean   bool // it was left by a clean stop
	inUse   bool
	remote  bool   // segments before the first are in remote storage (KIP-405)
	compact answer // offsets may be missing, because they were compacted
	as      Kind   // what its records are
	id      *[16]byte
	// From the checkpoints of the data directory, none if they do not say.
	recovery, start, high, cleaned int64
}

// torn tells that what is broken from this offset on is what a stop in the middle of a
// write leaves, which the next start cuts off.
func (f *facts) torn(offset int64) bool {
	return f.around && !f.clean && offset >= f.recovery
}

// partition checks one partition's directory.
type partition struct {
	facts
	*tools
	fs    vfs.FS
	dir   string
	notes *notes
	sum   *Summary

	bases     []int64 // of segments, increasing
	snapshots []int64 // offsets of producer snapshots, increasing
	files     map[string]int64

	epochs     []log.EpochStart
	haveEpochs bool
	epochSaid  string // the segment whose epochs were found wrong last
	deleting   int    // files that are
	compacted  bool   // offsets are missing that a compaction may have removed

	replay   *log.Replay
	replayed bool // replay is all that the log's producers can be
	compared int  // snapshots that were compared

	next int64 // offset after the last batch
	lost bool  // what is before next, or where the log ends, could not be read
}

// tools are what one worker uses for one partition after the other.
type tools struct {
	reader  batchReader
	decoder batch.Decoder
	index   entries
	times   entries
	aborted entries
	scratch window
	records recordReader
	work    *Progress
	stop    <-chan struct{}
}

func (p *partition) path(name string) string { return filepath.Join(p.dir, name) }

func segmentFile(base int64, suffix string) string { return fmt.Sprintf("%020d%s", base, suffix) }

func (p *partition) say(g Grade, file string, pos, offset int64, do, format string, args ...any) {
	p.notes.add(Finding{g, p.path(file), pos, offset, fmt.Sprintf(format, args...), do})
}

// check looks at everything in the directory.
func (p *partition) check() {
	p.sum.Partitions++
	p.files = map[string]int64{}
	p.next = none
	if !p.list() {
		return
	}
	p.checkPartitionFile()
	p.readEpochs()
	p.checkQuorumFiles()
	p.replay = log.NewReplay()
	p.checkFirstSnapshot()
	for i := range p.bases {
		s := segment{partition: p, base: p.bases[i], upper: none}
		s.last = i+1 == len(p.bases)
		if !s.last {
			s.upper = p.bases[i+1]
		}
		s.check()
	}
	if len(p.bases) == 0 {
		p.next = max(p.start, p.recovery, 0)
	}
	p.compareSnapshots(p.next + 1)
	p.checkLeftSnapshots()
	p.checkEnd()
}

// list sorts the files of the directory. False if it cannot be read.
func (p *partition) list() bool {
	list, err := p.fs.ReadDir(p.dir)
	if err != nil {
		p.unreadable("", err)
		return false
	}
	for _, e := range list {
		p.sort(e)
	}
	if p.deleting > 0 {
		p.notes.add(Finding{Notice, p.dir, none, none, fmt.Sprintf("%d files are being deleted", p.deleting), ""})
	}
	slices.Sort(p.bases)
	slices.Sort(p.snapshots)
	for _, name := range sortedNames(p.files) {
		base, suffix, ok := log.FileOffset(name)
		if !ok || suffix != indexSuffix && suffix != timeIndexSuffix && suffix != txnIndexSuffix {
			continue
		}
		if _, ok := slices.BinarySearch(p.bases, base); !ok {
			p.orphan(name, base)
		}
	}
	return true
}

// orphan is an index without its segment: left over, or all that is left.
func (p *partition) orphan(name string, base int64) {
	g, do := Derived, "the next start removes it"
	if p.inUse || !p.clean {
		g = Notice
	}
	p.say(g, name, none, base, do, "an index without its segment")
}

// sort takes one name of the directory.
func (p *partition) sort(e fs.DirEntry) {
	name := e.Name()
	if e.IsDir() {
		p.say(Notice, name, none, none, "", "a directory that does not belong here")
		return
	}
	if info, err := e.Info(); err == nil {
		p.files[name] = info.Size()
	}
	offset, suffix, ok := log.FileOffset(name)
	switch {
	case ok && suffix == logSuffix:
		p.bases = append(p.bases, offset)
	case ok && suffix == snapshotSuffix:
		p.snapshots = append(p.snapshots, offset)
	case ok && (suffix == indexSuffix || suffix == timeIndexSuffix || suffix == txnIndexSuffix):
	case strings.HasSuffix(name, ".deleted"):
		p.deleting++
	case strings.HasSuffix(name, ".cleaned"):
		p.say(Notice, name, none, none, "the next start removes it", "a compaction was interrupted before its result took its place")
	case strings.HasSuffix(name, ".swap"):
		p.say(Notice, name, none, none, "the next start puts it in its place", "a compaction was interrupted while its result took its place")
	case name == damageFile:
		p.say(Notice, name, none, none, "see the damage of the segments", "the broker knows of damage here and serves what is around it")
	case name == epochFile, name == partitionFile:
	case p.as == KindMetadata && (name == quorumStateFile || strings.HasSuffix(name, checkpointSuffix)):
	case strings.HasSuffix(name, ".tmp"), strings.HasSuffix(name, ".part"):
		p.say(Notice, name, none, none, "it may be deleted", "a file that was not written to its end")
	default:
		p.say(Notice, name, none, none, "", "a file that does not belong here")
	}
}

// checkPartitionFile holds partition.metadata against the metadata log.
func (p *partition) checkPartitionFile() {
	b, err := readSmall(p.fs, p.path(partitionFile))
	restore := "restore it"
	if p.id != nil {
		restore = fmt.Sprintf("write into it the lines \"version: 0\" and \"topic_id: %s\"", metadata.UUIDString(*p.id))
	}
	g := Damage
	if len(p.bases) == 0 {
		g = Notice
	}
	switch {
	case missing(err):
		if p.data() {
			p.say(g, partitionFile, none, none, restore, "it is missing: a start takes the data for another topic's and sets it aside")
		}
		return
	case err != nil:
		p.say(Damage, partitionFile, none, none, "make it readable", "it cannot be read: %v", err)
		return
	}
	id, err := log.ParseTopicID(b)
	if err != nil {
		p.say(g, partitionFile, none, none, restore, "%v", err)
		return
	}
	if p.id != nil && id != *p.id {
		p.say(g, partitionFile, none, none, restore+", if this is the topic's data", "topic id %s, the metadata log says %s: a start sets the directory aside",
			metadata.UUIDString(id), metadata.UUIDString(*p.id))
	}
}

// data tells that a segment has something in it.
func (p *partition) data() bool {
	return slices.ContainsFunc(p.bases, func(base int64) bool { return p.files[segmentFile(base, logSuffix)] > 0 })
}

// derived is the grade of what a start makes again: for a directory that was not left clean
// it does so anyway, from the recovery point on.
func (p *partition) derived(offset int64) Grade {
	if p.torn(offset) {
		return Notice
	}
	return Derived
}

// readEpochs reads leader-epoch-checkpoint.
func (p *partition) readEpochs() {
	b, err := readSmall(p.fs, p.path(epochFile))
	if missing(err) {
		return // whether it is needed, the batches tell
	}
	if err == nil {
		p.epochs, err = log.ParseEpochs(b)
	}
	if err != nil {
		p.say(p.derived(none), epochFile, none, none, epochsAgain, "%v", err)
		return
	}
	p.haveEpochs = true
}

// epochOf is the leader epoch that the checkpoint gives an offset, -1 for none.
func (p *partition) epochOf(offset int64) int32 {
	i := sort.Search(len(p.epochs), func(i int) bool { return p.epochs[i].Start > offset })
	if i == 0 {
		return batch.NoLeaderEpoch
	}
	return p.epochs[i-1].Epoch
}

// epochsAgain is what to do about leader epochs that are wrong.
const epochsAgain = "delete " + epochFile + " while the broker is stopped: rotpeter makes it again from the batches, Kafka from those that come"

// checkEpoch holds a batch's leader epoch against the checkpoint. The epoch is outside the
// batch's CRC, so this is what protects it.
func (p *partition) checkEpoch(file string, e *entry) {
	epoch, last := e.h.LeaderEpoch, e.last()
	if e.magic < batch.Magic || last < p.start || p.inUse && len(p.epochs) == 0 {
		return
	}
	for _, offset := range []int64{max(e.h.BaseOffset, p.start), last} {
		if known := p.epochOf(offset); known != epoch {
			switch {
			case !p.haveEpochs:
				p.say(p.derived(last), epochFile, none, none, "", "it is missing, and batches have leader epochs")
				p.haveEpochs, p.epochs = true, []log.EpochStart{{Epoch: epoch, Start: 0}}
			default:
				if p.epochSaid != file { // the remedy is the same for all
					p.say(p.derived(last), file, e.pos, offset, epochsAgain, "leader epoch %d, %s says %d", epoch, epochFile, known)
				}
				p.epochSaid = file
			}
			return
		}
	}
}

// checkEnd holds the end of the log against the checkpoints.
func (p *partition) checkEnd() {
	for _, e := range p.epochs {
		if e.Start > p.next && !p.lost && p.haveEpochs {
			p.say(p.derived(e.Start), epochFile, none, e.Start, "the next start removes the line", "leader epoch %d begins after the log's end %d", e.Epoch, p.next)
		}
	}
	p.checkStart()
	if p.inUse || p.lost {
		return
	}
	file := ""
	if n := len(p.bases); n > 0 {
		file = segmentFile(p.bases[n-1], logSuffix)
	}
	first := p.next
	if len(p.bases) > 0 {
		first = p.bases[0]
	}
	if p.recovery > p.next {
		p.say(Damage, file, none, p.next, "restore the file, or accept the loss by a start: the broker goes on at the end it finds",
			"the log ends at %d, and was on stable storage up to the recovery point %d", p.next, p.recovery)
	} else if p.clean && p.recovery != none && p.recovery != p.next {
		p.say(Notice, file, none, p.next, "", "the recovery point is %d after a clean stop, the log ends at %d", p.recovery, p.next)
	}
	if p.start > p.next {
		p.say(Damage, file, none, p.next, "restore the file, or start the broker: it goes on, empty, at the log start", "the log ends at %d, before the log start %d", p.next, p.start)
	} else if p.start != none && p.start < first && !p.remote {
		p.say(Notice, file, none, first, "", "the log start is %d, and the first segment begins at %d", p.start, first)
	}
	if p.high > p.next {
		g := Damage
		if !p.clean {
			g = Notice // acknowledged without a sync, as acks=1 is, and lost by the crash
		}
		p.say(g, file, none, p.next, "restore the file if the records are wanted", "the log ends at %d, and the high watermark was %d", p.next, p.high)
	}
	if p.high != none && p.clean && p.high < p.next {
		p.say(Notice, file, none, p.high, "", "the high watermark is %d after a clean stop, the log ends at %d", p.high, p.next)
	}
	if p.cleaned > p.next {
		p.say(Derived, file, none, p.cleaned, "the cleaner begins anew", "the log ends at %d, and is said to be compacted up to %d", p.next, p.cleaned)
	}
}

// checkStart looks for segments that are gone from the log's beginning: leader epochs are cut
// off where a log begins.
func (p *partition) checkStart() {
	if !p.clean || p.inUse || p.remote || len(p.epochs) == 0 || len(p.bases) == 0 || p.as == KindMetadata {
		return
	}
	if first, begin := p.bases[0], p.epochs[0].Start; begin < first && p.start < first {
		p.say(Damage, segmentFile(begin, logSuffix), none, begin, "restore the segments, or delete "+epochFile+" to accept the loss",
			"the log began at %d by its leader epochs, and its first segment begins at %d", begin, first)
	} else if start := max(p.start, first); begin < start {
		p.say(Notice, epochFile, none, begin, "", "leader epochs begin at %d, and the log at %d", begin, start)
	}
}

// unreadable reports a file that the system does not let us read.
func (p *partition) unreadable(file string, err error) {
	if missing(err) && p.inUse {
		return // deleted while we looked
	}
	p.lost = true
	if errors.Is(err, fs.ErrPermission) {
		p.sum.Unread++
		p.say(Notice, file, none, none, "run as the user of the broker", "it was not looked at: %v", err)
		return
	}
	p.say(Damage, file, none, none, "restore it", "it cannot be read: %v", err)
}
