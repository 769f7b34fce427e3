package log

// adoptOlder keeps what only a snapshot knows that lies between the segment that a
// recovery begins with and the recovery point: producers whose batches are gone, and
// transactions that began in them. Kafka takes its newest snapshot, and deletes those
// at or below the log's start (ProducerStateManager.truncateAndReload), so that after
// its retention or DeleteRecords the one of a clean stop may be the only one. What the
// batches from base on say is left to them: they are read afterwards.
func (r *loading) adoptOlder(base int64) {
	l := r.l
	if l.lastSnap >= 0 {
		return // a snapshot at or below base told all
	}
	for i := len(r.f.snapshots) - 1; i >= 0; i-- {
		offset := r.f.snapshots[i]
		if offset <= base || offset > r.point {
			continue // above the recovery point it may tell of batches that are not there
		}
		b, err := readFile(r.s.fs, l.snapshotPath(offset), maxSnapshotBytes)
		if err == nil {
			var known *producers
			if known, err = parseSnapshot(b); err == nil {
				l.producers.adopt(known, base)
				return
			}
		}
		r.s.slog.Warn("a producer snapshot cannot be read and is made again", "log", l.at.String(), "offset", offset, "reason", err)
	}
}

// adopt adds the producers that are not known and wrote below an offset.
func (ps *producers) adopt(known *producers, below int64) {
	for id, p := range known.byID {
		if ps.byID[id] != nil {
			continue
		}
		n := 0
		for _, b := range p.batches[:p.n] {
			if b.lastOffset < below {
				p.batches[n] = b
				n++
			}
		}
		if p.txnFirst >= below {
			p.txnFirst = -1 // its first batch will be read
		}
		if n == 0 && p.n > 0 && p.txnFirst < 0 {
			continue
		}
		p.n = n
		ps.makeRoom()
		ps.byID[id] = p
		if p.txnFirst >= 0 {
			ps.begin(openTxn{p.txnFirst, id})
		}
	}
}
