package broker

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// archive is the data directory of a broker, and the book of what it holds.
type archive struct {
	disk   *vfs.Crash
	killed bool
	files  []string
	deeds  []deed
}

// archives makes the directory that a clean stop leaves and one that a kill leaves, both
// with a metadata log that begins with a snapshot.
func archives(t *testing.T, seed uint64) (all []*archive) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		o, err := openOffice(t, disk, seed)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if err := o.step(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
		}
		time.Sleep(2 * time.Minute) // everything is checkpointed
		keep := func(mode vfs.Mode) {
			a := &archive{disk: disk.Crash(mode, 0), killed: mode == vfs.Kill, deeds: o.book()}
			var err error
			if a.files, err = vfs.Files(a.disk, "data"); err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(a.files, func(name string) bool {
				return strings.HasSuffix(name, ".checkpoint") && !strings.Contains(name, "00000000000000000000")
			}) {
				t.Error("no snapshot of the metadata log was made")
			}
			all = append(all, a)
		}
		keep(vfs.Kill)
		if err := o.close(); err != nil {
			t.Fatal(err)
		}
		keep(vfs.KeepAll)
	})
	return all
}

// kindOf groups the files.
func kindOf(name string) string {
	dir, base := path.Split(name)
	kind := base
	if _, suffix, ok := strings.Cut(base, "."); ok && len(base) > 20 && base[0] == '0' {
		kind = "." + suffix
	}
	for _, own := range []string{"__cluster_metadata", offsetsTopic} {
		if strings.Contains(dir, own) {
			return own + " " + kind
		}
	}
	return kind
}

// A file that a bad disk has changed is noticed by the broker, or it is no matter: it
// refuses to start and names the file, or answers an error, or all that it had
// acknowledged is there. It never answers with anything else, and removes no data.
func TestDamageUnderABroker(t *testing.T) {
	cases, lives := 2500, uint64(4)
	if testing.Short() {
		cases, lives = 100, 1
	}
	var mu sync.Mutex
	outcomes := map[string]map[string]int{}
	t.Run("life", func(t *testing.T) {
		for seed := range lives {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				all := archives(t, seed)
				rng := rand.New(rand.NewPCG(seed, 6))
				for range cases / int(lives) {
					a := all[rng.IntN(len(all))]
					disk, file, what := a.damage(t, rng)
					var outcome string
					var err error
					synctest.Test(t, func(t *testing.T) { outcome, err = a.judge(t, disk, file, what) })
					if err != nil {
						outcome = "WRONG"
						t.Errorf("seed %d, killed %t: %s: %s: %v", seed, a.killed, file, what, err)
					}
					key := kindOf(file) + " " + strings.SplitN(what, ":", 2)[0]
					mu.Lock()
					if outcomes[key] == nil {
						outcomes[key] = map[string]int{}
					}
					outcomes[key][outcome]++
					mu.Unlock()
				}
			})
		}
	})
	var s strings.Builder
	for _, key := range slices.Sorted(maps.Keys(outcomes)) {
		for _, o := range slices.Sorted(maps.Keys(outcomes[key])) {
			fmt.Fprintf(&s, "%6d  %s: %s\n", outcomes[key][o], key, o)
		}
	}
	t.Logf("what came of it:\n%s", s.String())
}

// damage changes a file of a random kind.
func (a *archive) damage(t *testing.T, rng *rand.Rand) (disk *vfs.Crash, file, what string) {
	byKind := map[string][]string{}
	for _, name := range a.files {
		byKind[kindOf(name)] = append(byKind[kindOf(name)], name)
	}
	kinds := slices.Sorted(maps.Keys(byKind))
	for what == "" {
		of := byKind[kinds[rng.IntN(len(kinds))]]
		disk, file = a.disk.Crash(vfs.Kill, 0), of[rng.IntN(len(of))]
		var err error
		if what, err = vfs.Damage(disk, file, rng); err != nil {
			t.Fatal(err)
		}
	}
	return disk, file, what
}

// judge starts a broker and asks for everything in the book.
func (a *archive) judge(t *testing.T, disk *vfs.Crash, file, what string) (outcome string, err error) {
	o, err := openOffice(t, disk, 1<<20)
	if err != nil {
		said := err.Error() + o.said.String()
		if !strings.Contains(said, path.Base(file)) && !strings.Contains(said, path.Base(path.Dir(file))) {
			return "", fmt.Errorf("the start is refused without a word about it: %w", err)
		}
		return "the start is refused", a.filesKept(disk)
	}
	outcome = "harmless"
	e := expect(a.deeds)
	meta, err := asked[*kmsg.MetadataResponse](o, &kmsg.MetadataRequest{}, 12)
	if err != nil {
		return "", errors.Join(err, o.close())
	}
	there := map[string]kmsg.MetadataResponseTopic{}
	for _, topic := range meta.Topics {
		there[*topic.Topic] = topic
	}
	note := func(of string, e error) {
		switch {
		case e == nil:
		case errors.Is(e, errDiffers) && strings.HasSuffix(file, ".log") && strings.Contains(o.said.String(), "a torn tail is cut off"):
			outcome = "cut off as torn above the recovery point, and logged"
		case errors.Is(e, errDiffers) && strings.HasSuffix(file, ".log") && a.killed && strings.HasPrefix(what, "truncate"):
			// Between two batches above the recovery point a file ends as if the rest had never been synced.
			outcome = "cut short above the recovery point"
		case errors.Is(e, errDiffers) && a.killed && strings.HasSuffix(file, "partition.metadata") && (strings.HasPrefix(what, "zero") || strings.HasPrefix(what, "truncate: to 0 ")) && strings.Contains(o.said.String(), "is set aside"):
			// A crash leaves the file like that, before anything of the log is durable.
			outcome = "set aside above the recovery point, and logged"
		case errors.Is(e, errDiffers) || errors.Is(e, errWedged):
			err = errors.Join(err, fmt.Errorf("%s: %w", of, e))
		default:
			outcome = "an error is answered"
		}
	}
	for _, name := range officeTopics {
		want, is := e.topic(name), there[name]
		switch found := is.Topic != nil; {
		case found != (want.exists == yes):
			err = errors.Join(err, fmt.Errorf("topic %s is there: %t", name, found))
		case found && is.TopicID != want.id:
			err = errors.Join(err, fmt.Errorf("topic %s has another id", name))
		case found:
			note(name, o.inspectConfig(name, want))
			note(name, o.inspectRecords(name, want))
		}
	}
	note("offsets", o.inspectOffsets(e))
	note("what comes next", o.inspectNext(e, there))
	if e := o.close(); e != nil {
		outcome = "the stop says so"
	}
	if err = errors.Join(err, a.filesKept(disk)); err != nil {
		err = fmt.Errorf("%w\n%s", err, o.said.String())
	}
	return outcome, err
}

// filesKept: whatever held records is still there, in its place or set aside. Of the
// metadata log, what a snapshot stands for may go.
func (a *archive) filesKept(disk *vfs.Crash) error {
	now, err := vfs.Files(disk, "data")
	if err != nil {
		return err
	}
	for _, name := range a.files {
		if slices.Contains(now, name) || !strings.HasSuffix(name, ".log") {
			continue
		}
		dir, base := path.Split(name)
		if slices.ContainsFunc(now, func(n string) bool {
			return strings.HasSuffix(n, ".checkpoint") && path.Dir(n) == path.Dir(name) && path.Base(n) > base
		}) {
			continue
		}
		aside := strings.TrimSuffix(dir, "/") + "."
		if !slices.ContainsFunc(now, func(n string) bool { return strings.HasPrefix(n, aside) && path.Base(n) == base }) {
			return fmt.Errorf("%s is gone", name)
		}
	}
	return nil
}
