package metadata

import (
	"fmt"
	"runtime"
	"testing"
)

// manyTopics returns a draft with n topics of so many partitions.
func manyTopics(t testing.TB, n, partitions int) *draft {
	d := newDraft("c", 1)
	for i := range n {
		addTopic(t, d, i, partitions)
	}
	d.freeze()
	return d
}

func addTopic(t testing.TB, d *draft, i, partitions int) {
	id := RandomUUID(testID(uint64(i+1) * 0x9e3779b97f4a7c15))
	if err := d.apply(&TopicRecord{Name: fmt.Sprintf("team-%02d.service.topic-%06d", i%31, i), TopicID: id}); err != nil {
		t.Fatal(err)
	}
	for p := range partitions {
		if err := d.apply(&PartitionRecord{PartitionID: int32(p), TopicID: id, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1, Directories: [][16]byte{{1}}}); err != nil {
			t.Fatal(err)
		}
	}
}

// Creating one topic among 10,000 with 100,000 partitions copies a few pieces: it
// allocates a small part of what the topics take.
func TestOneTopicAmongManyIsCheap(t *testing.T) {
	d := manyTopics(t, 10_000, 10)
	before := d.freeze()
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	addTopic(t, d, 20_000, 10)
	after := d.freeze()
	runtime.ReadMemStats(&b)
	if n := b.TotalAlloc - a.TotalAlloc; n > 64<<10 {
		t.Errorf("%d bytes allocated", n)
	}
	created, deleted, grown := Diff(before, after)
	if len(created) != 1 || created[0].Name != "team-05.service.topic-020000" || len(deleted)+len(grown) != 0 {
		t.Errorf("created %d, deleted %d, grown %d", len(created), len(deleted), len(grown))
	}
}

func BenchmarkCreateOneAmong10000(b *testing.B) {
	d := manyTopics(b, 10_000, 10)
	b.ReportAllocs()
	i := 1_000_000
	for b.Loop() {
		i++
		addTopic(b, d, i, 1)
		d.freeze()
		b.StopTimer() // keeps the number of topics
		name := fmt.Sprintf("team-%02d.service.topic-%06d", i%31, i)
		_ = d.apply(&RemoveTopicRecord{TopicID: d.img.Topic(name).ID})
		d.freeze()
		b.StartTimer()
	}
}

func BenchmarkLoad100000Partitions(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		manyTopics(b, 10_000, 10)
	}
}

func BenchmarkTopicByName(b *testing.B) {
	img := manyTopics(b, 10_000, 1).freeze()
	ts := img.Topics()
	i := 0
	for b.Loop() {
		i++
		if img.Topic(ts[i*7919%len(ts)].Name) == nil {
			b.Fatal("not found")
		}
	}
}

func BenchmarkTopicByID(b *testing.B) {
	img := manyTopics(b, 10_000, 1).freeze()
	ts := img.Topics()
	i := 0
	for b.Loop() {
		i++
		if img.TopicByID(ts[i*7919%len(ts)].ID) == nil {
			b.Fatal("not found")
		}
	}
}

func BenchmarkDiffOneAmong10000(b *testing.B) {
	d := manyTopics(b, 10_000, 1)
	before := d.freeze()
	addTopic(b, d, 20_000, 1)
	after := d.freeze()
	for b.Loop() {
		Diff(before, after)
	}
}

// BenchmarkSnapshotRecords writes down an image with 10,000 topics and 100,000
// partitions, as a snapshot does.
func BenchmarkSnapshotRecords(b *testing.B) {
	d := manyTopics(b, 10_000, 10)
	if err := d.apply(&FeatureLevelRecord{Name: FeatureMetadataVersion, FeatureLevel: 30}); err != nil {
		b.Fatal(err)
	}
	img := d.freeze()
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for r := range img.SnapshotRecords() {
			n += len(r)
		}
		b.SetBytes(int64(n))
	}
}
