package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// Begin ends what a crash left of moves from one directory to another. Call it when
// Assigned knows all partitions, and before the first Open. Error: a partition is in
// two directories, neither of which is recorded as its place.
func (d *Dirs) Begin() error {
	if len(d.online()) > 1 {
		if err := d.refuseTwins(); err != nil {
			return err
		}
	}
	for _, r := range d.online() {
		places := make([]place, 0, len(r.future))
		for p := range r.future {
			places = append(places, p)
		}
		slices.SortFunc(places, func(a, b place) int {
			if a.less(b) {
				return -1
			}
			return 1
		})
		for _, p := range places {
			kept := r.future[p][:0]
			for _, dir := range r.future[p] {
				keep, err := d.judgeFuture(r, p, dir)
				if err != nil {
					return err
				}
				if keep {
					kept = append(kept, dir)
				}
			}
			r.future[p] = kept
		}
	}
	return nil
}

// refuseTwins finds partitions that are in two directories. The recorded one is the
// partition, and the other is set aside; Kafka refuses to start with both.
func (d *Dirs) refuseTwins() error {
	in := map[place][]*Directory{}
	for _, r := range d.online() {
		for p := range r.held {
			in[p] = append(in[p], r)
		}
	}
	var all error
	for p, rs := range in {
		if len(rs) > 1 {
			all = errors.Join(all, d.refuseTwin(p, rs))
		}
	}
	return all
}

func (d *Dirs) refuseTwin(p place, rs []*Directory) error {
	byID := map[[16]byte][]*Directory{}
	for _, r := range rs {
		id, err := r.store.readID(partitionDir(r.name, p))
		if err == nil {
			byID[id] = append(byID[id], r)
		} else if !missing(err) && !errors.Is(err, errDoubt) {
			return err
		}
	}
	for id, rs := range byID {
		assigned, known := d.assigned(partitionKey{id, p.partition})
		if len(rs) < 2 || !known {
			continue // the unknown is set aside when all others were opened
		}
		i := slices.IndexFunc(rs, func(r *Directory) bool { return r.id == assigned && assigned != migratingDir })
		if i < 0 {
			return fmt.Errorf("%s is in both %s and %s, and the metadata log has it in neither: remove one of the two directories of the partition, that in the data directory that failed last",
				p, rs[0].name, rs[1].name)
		}
		for _, r := range rs {
			if r == rs[i] {
				continue
			}
			d.slog.Error("a partition is in two directories: the one that the metadata log does not have it in is set aside", "log", p.String(), "dir", r.name, "of", rs[i].name)
			if _, err := r.store.retire(p, strayDirSuffix, 0); err != nil {
				return err
			}
			delete(r.held, p)
		}
	}
	return nil
}

// judgeFuture decides about a copy that an earlier process began. keep: it waits for
// the log to be opened.
func (d *Dirs) judgeFuture(r *Directory, p place, dir string) (keep bool, err error) {
	id, err := r.store.readID(dir)
	if missing(err) || errors.Is(err, errDoubt) {
		// The id is written before any data.
		_, err := r.store.retireDir(p, dir, strayDirSuffix, 0)
		return false, err
	}
	if err != nil {
		return false, err
	}
	assigned, known := d.assigned(partitionKey{id, p.partition})
	if !known {
		d.slog.Warn("a copy of a log that belongs to no topic is set aside", "log", p.String(), "dir", dir, "topic id", formatID(id))
		_, err := r.store.retireDir(p, dir, strayDirSuffix, 0)
		return false, err
	}
	for _, other := range d.online() {
		has, err := other.store.readID(partitionDir(other.name, p))
		if err == nil && has == id {
			return true, nil
		}
		if err != nil && !missing(err) && !errors.Is(err, errDoubt) {
			return false, err
		}
	}
	switch {
	case assigned == r.id && assigned != migratingDir:
		d.slog.Info("a move of a log to another directory is completed", "log", p.String(), "dir", r.name)
		return false, d.promote(r, p, dir)
	case d.lost(assigned):
		return true, nil // of a log that is out of service
	}
	d.slog.Warn("a copy of a log that is nowhere else is set aside: it may not be complete", "log", p.String(), "dir", dir)
	_, err = r.store.retireDir(p, dir, strayDirSuffix, 0)
	return false, err
}

// promote gives a complete copy the partition's name. What has the name already is of another topic.
func (d *Dirs) promote(r *Directory, p place, dir string) error {
	s, final := r.store, partitionDir(r.name, p)
	if _, err := s.fs.Stat(final); err == nil {
		if _, err := s.retire(p, strayDirSuffix, 0); err != nil {
			return err
		}
	} else if !missing(err) {
		return worldly("look for "+final, err)
	}
	if err := s.fs.Rename(dir, final); err != nil {
		return worldly("rename "+filepath.Base(dir), err)
	}
	r.held[p] = struct{}{}
	if err := s.fs.SyncDir(r.name); err != nil {
		return s.fail(fmt.Errorf("rename %s: %w", filepath.Base(dir), err))
	}
	return nil
}

// resume goes on with the move of a log that has just been opened, if an earlier process began one.
func (d *Dirs) resume(l *Log) {
	for _, r := range d.dirs {
		d.mu.Lock()
		dirs := r.future[l.at]
		delete(r.future, l.at)
		d.mu.Unlock()
		for _, dir := range dirs {
			if err := d.resumeOne(l, r, dir); err != nil {
				d.slog.Error("a move of a log to another directory does not go on", "log", l.at.String(), "to", r.name, "err", err)
			}
		}
	}
}

func (d *Dirs) resumeOne(l *Log, r *Directory, dir string) error {
	if err := r.Err(); err != nil {
		return err
	}
	moves := d.mover.find(partitionKey{l.id, l.at.partition}) == nil && l.store != r.store
	// After a crash the copy may have what the log has lost, and the other way round.
	if moves && r.store.Clean() && l.store.Clean() {
		future, err := r.store.loadFuture(l, dir)
		if err == nil && mirrors(future, l) {
			return d.start(l, future, r)
		}
		if err == nil {
			if err := r.store.dropFuture(future, true); err != nil {
				return err
			}
			return d.Move(l, r)
		}
	}
	if _, err := r.store.retireDir(l.at, dir, deleteDirSuffix, 0); err != nil || !moves {
		return err
	}
	return d.Move(l, r)
}

// mirrors tells whether a copy has the same segments as the log, as far as it goes.
// One that Kafka made may be cut differently.
func mirrors(future, l *Log) bool {
	have, want := *future.segments.Load(), *l.segments.Load()
	i := floor(want, have[0].base)
	if i < 0 || len(want)-i < len(have) || future.Err() != nil {
		return false
	}
	for j, g := range have {
		w, size := want[i+j], g.size.Load()
		if g.base != w.base || size > w.size.Load() || j < len(have)-1 && size != w.size.Load() {
			return false
		}
	}
	return true
}
