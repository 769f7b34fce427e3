package inspect

import (
	"fmt"
	"slices"

	"github.com/rotpeter/rotpeter/log"
)

// maxSnapshotBytes bounds the producer snapshots that are looked at: five million producers.
const maxSnapshotBytes = 256 << 20

// checkFirstSnapshot begins the replay of producers: with nothing for a log from offset 0,
// else with the snapshot at the first segment's base.
func (p *partition) checkFirstSnapshot() {
	if len(p.bases) == 0 {
		return
	}
	p.replayed = p.bases[0] == 0
	for p.compared < len(p.snapshots) && p.snapshots[p.compared] < p.bases[0] {
		p.say(Notice, segmentFile(p.snapshots[p.compared], snapshotSuffix), none, p.snapshots[p.compared], "it may be deleted", "a producer snapshot from before the log's first segment")
		p.compared++
	}
	p.compareSnapshots(p.bases[0] + 1)
}

// compareSnapshots holds the snapshots below an offset, which the replay has reached, against it.
func (p *partition) compareSnapshots(below int64) {
	for p.compared < len(p.snapshots) && p.snapshots[p.compared] < below {
		p.compareSnapshot(p.snapshots[p.compared])
		p.compared++
	}
}

// checkLeftSnapshots reports snapshots of offsets that the log does not have.
func (p *partition) checkLeftSnapshots() {
	if p.inUse || p.lost {
		return
	}
	for _, offset := range p.snapshots[p.compared:] {
		p.say(p.derived(offset), segmentFile(offset, snapshotSuffix), none, offset, "the next start removes it", "a producer snapshot of offset %d, the log ends at %d", offset, p.next)
	}
}

const snapshotAgain = "delete the file while the broker is stopped: producers are then read from the batches"

// compareSnapshot checks a snapshot and holds it against the replay, where that is all there
// is to know. The replay goes on from the snapshot.
func (p *partition) compareSnapshot(offset int64) {
	name := segmentFile(offset, snapshotSuffix)
	f, size, err := open(p.fs, p.path(name))
	if err != nil {
		p.unreadable(name, err)
		return
	}
	p.scratch.reset(f, size)
	if size > maxSnapshotBytes {
		p.say(Notice, name, none, offset, "", "it has %d bytes, and is not looked at", size)
	} else if why := p.checkSnapshot(size); why != "" {
		p.say(p.derived(offset), name, none, offset, snapshotAgain, "%s", why)
	} else {
		p.takeSnapshot(name, offset, size)
	}
	if err := f.Close(); err != nil {
		p.unreadable(name, err)
	}
}

// checkSnapshot looks at the snapshot in p.scratch: its version, count and CRC. It says what is wrong.
func (p *partition) checkSnapshot(size int64) string {
	if size < log.SnapshotHeaderBytes {
		return fmt.Sprintf("a producer snapshot of %d bytes", size)
	}
	b, err := p.scratch.at(0, log.SnapshotHeaderBytes)
	if err != nil {
		return err.Error()
	}
	version, crc, count := log.SnapshotHeader(b)
	if version != 1 {
		return fmt.Sprintf("version %d of producer snapshots does not exist", version)
	}
	if want := log.SnapshotHeaderBytes + int64(count)*log.SnapshotEntryBytes; size != want {
		return fmt.Sprintf("it says %d producers, which is %d bytes, and has %d", count, want, size)
	}
	sum := uint32(0)
	for at := int64(log.SnapshotCRCFrom); at < size; {
		b, err := p.scratch.at(at, int(min(windowBytes, size-at)))
		if err != nil {
			return err.Error()
		}
		sum = log.SnapshotCRC(sum, b)
		at += int64(len(b))
	}
	if sum != crc {
		return fmt.Sprintf("stored crc %d, computed crc %d", crc, sum)
	}
	return ""
}

// takeSnapshot compares the entries with the replay and makes them the new state.
func (p *partition) takeSnapshot(name string, offset, size int64) {
	const at = log.SnapshotHeaderBytes
	count := (size - at) / log.SnapshotEntryBytes
	fresh, full := log.NewReplay(), count < log.MaxReplayed
	open := p.replay.InTransaction()
	slices.Sort(open)
	for i := range count {
		pos := at + i*log.SnapshotEntryBytes
		b, err := p.scratch.at(pos, log.SnapshotEntryBytes)
		if err != nil {
			p.unreadable(name, err)
			return
		}
		got := log.DecodeProducer(b)
		if _, twice := fresh.Producer(got.ID); twice {
			p.say(p.derived(offset), name, pos, offset, snapshotAgain, "producer %d is there twice", got.ID)
		}
		if p.replayed {
			p.compareProducer(name, pos, offset, got)
		}
		if j, ok := slices.BinarySearch(open, got.ID); ok {
			open = slices.Delete(open, j, j+1)
		}
		if full {
			fresh.Load(b)
		}
	}
	if p.replayed {
		for _, id := range open { // others may have expired
			p.say(p.derived(offset), name, none, offset, snapshotAgain, "producer %d has an open transaction by the batches, and is not there", id)
		}
	}
	p.replay, p.replayed = fresh, full
}

func (p *partition) compareProducer(name string, pos, offset int64, got log.ProducerEntry) {
	want, ok := p.replay.Producer(got.ID)
	if !ok {
		p.say(p.derived(offset), name, pos, offset, snapshotAgain, "producer %d is not in the batches", got.ID)
		return
	}
	if got.CoordinatorEpoch < 0 { // it expired and came back
		want.CoordinatorEpoch = got.CoordinatorEpoch
	}
	if got.LastOffset < 0 {
		want.OffsetDelta, got.OffsetDelta = 0, 0
	}
	if got != want {
		p.say(p.derived(offset), name, pos, offset, snapshotAgain, "the producer is %+v, by the batches it is %+v", got, want)
	}
}
