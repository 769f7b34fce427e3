package log

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotpeter/rotpeter/log/batch"
)

// CleanerConfig are the settings of compaction, under Kafka's names (CleanerConfig).
type CleanerConfig struct {
	Enabled           bool          // log.cleaner.enable
	Threads           int           // log.cleaner.threads: logs cleaned at a time
	DedupeBytes       int64         // log.cleaner.dedupe.buffer.size: memory for keys, over all threads
	IOBytes           int           // log.cleaner.io.buffer.size: memory for reads and writes, over all threads
	LoadFactor        float64       // log.cleaner.io.buffer.load.factor
	Backoff           time.Duration // log.cleaner.backoff.ms: the pause when nothing is to be cleaned
	MaxBytesPerSecond float64       // log.cleaner.io.max.bytes.per.second, reads and writes together
}

// DefaultCleanerConfig returns Kafka's defaults.
func DefaultCleanerConfig() CleanerConfig {
	return CleanerConfig{
		Enabled: true, Threads: 1, DedupeBytes: 128 << 20, IOBytes: 512 << 10, LoadFactor: 0.9,
		Backoff: 15 * time.Second, MaxBytesPerSecond: math.MaxFloat64,
	}
}

// CleanerStats tell how compaction goes, for metrics (LogCleaner, LogCleanerManager).
type CleanerStats struct {
	Cleaned     int64         // logs cleaned since the start
	Uncleanable int           // logs that could not be cleaned and are left alone
	DirtyRatio  float64       // of the dirtiest log at the last look, 0 to 1
	Delay       int64         // milliseconds by which the most overdue log passed max.compaction.lag.ms
	Idle        time.Duration // since it last looked
	// UncleanableBytes are of finished segments after what was compacted before.
	UncleanableBytes int64

	// Of the last log cleaned.
	Duration                time.Duration
	BytesRead, BytesWritten int64
	MapUse                  float64 // how full the map of keys was, 0 to 1
}

// cleaner compacts logs, in one goroutine of the store and as many beside it as it has threads.
type cleaner struct {
	s      *Store
	stop   chan struct{} // closed to end it
	wake   chan struct{}
	config atomic.Pointer[CleanerConfig]
	pace   pace

	mu      sync.Mutex
	stats   CleanerStats
	lastRun time.Time
}

func (c *cleaner) init(s *Store) {
	c.lastRun = time.Now()
	c.s, c.stop, c.wake = s, make(chan struct{}), make(chan struct{}, 1)
	config := s.o.Cleaner
	c.config.Store(&config)
}

// SetCleaner puts other settings of compaction in force, from the next log on.
func (s *Store) SetCleaner(config CleanerConfig) {
	s.cleaner.config.Store(&config)
	select {
	case s.cleaner.wake <- struct{}{}:
	default:
	}
}

// CleanerStats tells how compaction goes.
func (s *Store) CleanerStats() CleanerStats {
	c := &s.cleaner
	c.mu.Lock()
	stats := c.stats
	stats.Idle = time.Since(c.lastRun)
	c.mu.Unlock()
	for _, l := range s.open() {
		l.mu.Lock()
		bad, from := l.uncleanable != nil, l.cleaned
		l.mu.Unlock()
		if !bad {
			continue
		}
		stats.Uncleanable++
		all := *l.segments.Load()
		for _, g := range all[max(floor(all, from), 0) : len(all)-1] {
			stats.UncleanableBytes += g.size.Load()
		}
	}
	return stats
}

// run is the cleaner's goroutine.
func (c *cleaner) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.wake:
		case <-timer.C:
		}
		switch config := c.config.Load(); {
		case !config.Enabled || config.Threads <= 0 || c.s.Err() != nil:
			timer.Stop() // until the settings change
		case c.pass(config, time.Now()):
			timer.Reset(0)
		default:
			timer.Reset(max(config.Backoff, time.Millisecond))
		}
	}
}

// pass cleans the dirtiest logs, as many as there are threads, and tells whether there
// was anything to clean.
func (c *cleaner) pass(config *CleanerConfig, now time.Time) bool {
	all := c.choose(now, config.Threads)
	if len(all) == 0 {
		return false
	}
	var wg sync.WaitGroup
	var cleaned atomic.Bool
	for _, d := range all {
		wg.Go(func() {
			if c.clean(d, config, now) {
				cleaned.Store(true)
			}
		})
	}
	wg.Wait()
	return cleaned.Load()
}

// choose gives the n dirtiest logs that are to be cleaned (grabFilthiestCompactedLog).
func (c *cleaner) choose(now time.Time, n int) []dirt {
	var best []dirt
	ratio, delay := 0.0, int64(0)
	for _, l := range c.s.open() {
		d, err := l.dirt(millis(now))
		if err != nil {
			c.fail(l, err)
		}
		if err != nil || d.total == 0 {
			continue
		}
		ratio, delay = max(ratio, d.ratio()), max(delay, d.delay)
		if !(d.delay > 0 && d.cleanable > 0) && d.ratio() <= l.config.Load().MinCleanableRatio {
			continue
		}
		at := len(best)
		for at > 0 && best[at-1].ratio() < d.ratio() {
			at--
		}
		if at < n {
			best = append(best[:at:at], append([]dirt{d}, best[at:min(len(best), n-1)]...)...)
		}
	}
	c.mu.Lock()
	c.stats.DirtyRatio, c.stats.Delay, c.lastRun = ratio, delay, now
	c.mu.Unlock()
	return best
}

// clean cleans one log and tells whether it came to its end.
func (c *cleaner) clean(d dirt, config *CleanerConfig, now time.Time) bool {
	began := time.Now()
	w := newCleaning(c, d, config, millis(now))
	end, err := w.run()
	l := d.l
	if err == nil {
		l.mu.Lock()
		l.cleaned = end
		l.mu.Unlock()
		err = c.s.save(cleanerFile)
	}
	switch {
	case err == nil:
	case errors.Is(err, errStopped), errors.Is(err, ErrOffline), errors.Is(err, errReplaced), errors.Is(err, ErrClosed):
		return false
	case errors.Is(err, ErrDiskFull):
		c.s.report("compact "+l.at.String(), err)
		return false
	default:
		c.fail(l, err)
		return false
	}
	took := time.Since(began)
	c.mu.Lock()
	c.stats.Cleaned++
	c.stats.Duration, c.stats.BytesRead, c.stats.BytesWritten = took, w.bytesRead, w.bytesWritten
	c.stats.MapUse = float64(w.keys.used) / float64(len(w.keys.entries))
	c.mu.Unlock()
	c.s.slog.Info("a log was compacted", "log", l.at.String(), "from", d.first, "to", end, "took", took,
		"bytes read", w.bytesRead, "bytes written", w.bytesWritten, "records read", w.read, "records kept", w.kept)
	return true
}

// fail sets a log aside that cannot be cleaned. It grows from then on, and is served as it is.
func (c *cleaner) fail(l *Log, err error) {
	if l.deleted.Load() || c.s.Err() != nil {
		return
	}
	var bad *brokenAt
	if errors.As(err, &bad) {
		if e := l.quarantine(bad); e != nil {
			err = errors.Join(err, e)
		}
	}
	l.mu.Lock()
	was := l.uncleanable
	l.uncleanable = err
	l.mu.Unlock()
	if was == nil {
		c.s.slog.Error("a log cannot be compacted and grows from now on; what is wrong must be mended before the next start", "log", l.at.String(), "err", err)
	}
}

// errStopped ends a cleaning because the store closes, or the log is removed or moves.
var errStopped = errors.New("compaction was stopped")

// stopped tells whether the cleaning of a log should end.
func (c *cleaner) stopped(l *Log) error {
	select {
	case <-c.stop:
		return errStopped
	default:
	}
	if l.deleted.Load() || l.moving.Load() || c.s.Err() != nil {
		return errStopped
	}
	return nil
}

// pace keeps the bytes per second of all cleanings below a limit.
type pace struct {
	mu   sync.Mutex
	free time.Time // when the next bytes may be moved
}

// take waits until n bytes may be moved. Error: errStopped.
func (c *cleaner) take(n int, config *CleanerConfig) error {
	if config.MaxBytesPerSecond <= 0 || config.MaxBytesPerSecond > math.MaxInt64 {
		return nil
	}
	now := time.Now()
	c.pace.mu.Lock()
	if c.pace.free.Before(now) {
		c.pace.free = now
	}
	wait := c.pace.free.Sub(now)
	c.pace.free = c.pace.free.Add(time.Duration(float64(n) / config.MaxBytesPerSecond * float64(time.Second)))
	c.pace.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-c.stop:
		return errStopped
	case <-timer.C:
		return nil
	}
}

// dirt is what there is to clean in a log (LogToClean).
type dirt struct {
	l     *Log
	first int64 // first dirty offset
	upper int64 // first offset that may not be cleaned: the base of a segment
	delay int64 // milliseconds beyond max.compaction.lag.ms

	cleanable, total int64 // bytes
}

func (d *dirt) ratio() float64 {
	if d.total == 0 {
		return 0
	}
	return float64(d.cleanable) / float64(d.total)
}

// dirt looks how much of a log could be cleaned. Only finished segments are, so that a
// compacted segment is never among those that a recovery reads.
func (l *Log) dirt(nowMillis int64) (dirt, error) {
	c := l.config.Load()
	d := dirt{l: l}
	all := *l.segments.Load()
	if !c.Compact || len(all) < 2 || l.damage.Load() != nil || l.moving.Load() {
		return d, nil
	}
	o := l.marks.load()
	l.mu.Lock()
	skip := l.uncleanable != nil || l.closed || l.broken != nil
	d.first = l.cleaned
	n := 0 // segments that may be cleaned
	for n < len(all)-1 && all[n].finished && all[n+1].base <= o.Stable {
		n++
	}
	l.mu.Unlock()
	if d.first < o.Start || d.first > o.End {
		d.first = o.Start
	}
	from := max(floor(all, d.first), 0)
	if skip || n <= from {
		return d, nil
	}
	if c.MinCompactionLagMillis > 0 {
		for i := from; i < n; i++ {
			largest, _, err := all[i].newest()
			if err != nil {
				return d, err
			}
			if largest > nowMillis-c.MinCompactionLagMillis {
				n = i
				break
			}
		}
	}
	d.upper = all[n].base
	for i, g := range all[:n] {
		if g.base < d.first {
			d.total += g.size.Load()
		}
		if i >= from {
			d.cleanable += g.size.Load()
			if c.MaxCompactionLagMillis == math.MaxInt64 {
				continue
			}
			oldest, err := g.firstBatchTimestamp()
			if err != nil {
				return d, err
			}
			if oldest > 0 {
				d.delay = max(d.delay, nowMillis-c.MaxCompactionLagMillis-oldest)
			}
		}
	}
	d.total += d.cleanable
	return d, nil
}

// newest is the largest timestamp of a segment, or when it was last written.
func (g *segment) newest() (millis, offset int64, err error) {
	millis, offset, err = g.largest()
	if err == nil && millis < 0 {
		g.l.mu.Lock()
		millis = g.modified
		g.l.mu.Unlock()
	}
	return millis, offset, err
}

// firstBatchTimestamp is the timestamp of the first batch, -1 if it has none.
func (g *segment) firstBatchTimestamp() (int64, error) {
	g.l.mu.Lock()
	known, timestamp := g.firstKnown, g.firstTimestamp
	g.l.mu.Unlock()
	if known || g.size.Load() == 0 {
		return timestamp, nil
	}
	f, err := g.open()
	if err != nil {
		return 0, g.failed("open", err)
	}
	defer f.release()
	w := g.walk(f, 0, g.size.Load(), make([]byte, batch.HeaderBytes))
	h, _, err := w.step()
	if err != nil {
		return 0, err
	}
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	g.firstKnown, g.firstTimestamp = true, h.MaxTimestamp
	return h.MaxTimestamp, nil
}
