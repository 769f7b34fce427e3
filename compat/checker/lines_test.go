package checker

import (
	"bufio"
	"strings"
	"testing"
)

// story is a history as text, with a lost write at offset 1 of partition 0 and a lost commit.
const story = `writer 1 plain
writer 2 transactional
consumer audit assigned control
consumer clean assigned committed
send 1.1 0 0
sent 1.1 ok 0
send 1.2 0 0
sent 1.2 ok 1
# 1.5 kill
restarted
high 0 2 2
stable 0 0 1
start 0 0 0
trimmed 1 0
send 1.3 0 0
sent 1.3 unknown -1
begin 1 transactional
send 2.1 0 1
sent 2.1 ok 2
commit 7 transactional g 1 5 1 9
ask 1 10
end 1 ok 11
poll audit 0 12 0:0=1.1 0:1=1.3 0:2=2.1 0:3=COMMIT
poll clean 0 13 0:0=1.1
restarted
fetched g 1 0 -1 14 15
producer 3 plain
put k value
put k tombstone
putdone k 1 ok
putdone k 2 unknown
kept k 1
check 100
settled 0 4 4
consumer f assigned control final
consumer fc assigned control final committed
poll f 0 200 0:0=1.1 0:1=1.3 0:2=2.1 0:3=COMMIT
poll fc 0 200 0:0=1.1 0:1=1.3 0:2=2.1 0:3=COMMIT
finish 300
`

func TestApply(t *testing.T) {
	h := New(2, &ProducerIDs{})
	for lines := bufio.NewScanner(strings.NewReader(story)); lines.Scan(); {
		if err := h.Apply(lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.Violations()) != 2 || h.Violations()[0].Rule != LostWrite || h.Violations()[1].Rule != LostCommit {
		t.Fatalf("violations %v", h.Violations())
	}
	for i, want := range []string{`# lost write: acknowledged, the readers went past it, and nobody read it (the other value is what is there); partition 0 offsets [1] values [1.2 1.3] clients plain, plain
send 1.2 0 0
sent 1.2 ok 1
# 1.5 kill
restarted
send 1.3 0 0
sent 1.3 unknown -1
poll audit 0 12 0:0=1.1 0:1=1.3 0:2=2.1 0:3=COMMIT
poll clean 0 13 0:0=1.1
restarted
poll f 0 200 0:0=1.1 0:1=1.3 0:2=2.1 0:3=COMMIT
poll fc 0 200 0:0=1.1 0:1=1.3 0:2=2.1 0:3=COMMIT
`, `# lost group commit: group g: a commit was acknowledged, and the group has no offset (fetched: commit 0), commit 7 of offset 5; partition 1 offsets [-1 5] clients g, transactional
# 1.5 kill
restarted
commit 7 transactional g 1 5 1 9
restarted
fetched g 1 0 -1 14 15
`} {
		var got strings.Builder
		if err := h.Slice(h.Violations()[i], strings.NewReader(story), &got); err != nil {
			t.Fatal(err)
		}
		if got.String() != want {
			t.Errorf("the slice is\n%swant\n%s", got.String(), want)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, line := range []string{
		"nonsense 1", "send 1.1 2 0", "send 1 0 0", "send 1.1 0 x", "sent 1.1 maybe 0", "poll nobody 0 1", "poll a 0 1 0-1=1.1", "poll a 0 1 0:x=1.1",
		"putdone k 1 ok", "commit 1 c g 9 0 0 0", "end 1 perhaps 0", "check soon", "high 0 1",
	} {
		h := New(2, &ProducerIDs{})
		h.Consumer(Consumer{Name: "a"})
		if err := h.Apply(line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}
