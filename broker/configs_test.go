package broker

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A setting that was altered is in force when the answer comes: for logs that are
// open, for those opened later, and after a restart.
func TestAlteredSettingsAreInForce(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		h.produce(cl, "t", 1)
		alter := func(kind kmsg.ConfigResourceType, name, key, value string) {
			t.Helper()
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			c.Name, c.Value = key, &value
			r := kmsg.NewIncrementalAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = kind, name
			r.Configs = []kmsg.IncrementalAlterConfigsRequestResourceConfig{c}
			req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{r}
			if got := ask[*kmsg.IncrementalAlterConfigsResponse](h, cl, req).Resources[0]; got.ErrorCode != 0 {
				t.Fatalf("alter %s of %q: %+v", key, name, got)
			}
		}
		retention := func(when, topic string, want int64) {
			t.Helper()
			l, _, err := h.b.partition(topic, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Config().RetentionMillis; got != want {
				t.Errorf("%s: retention of %s is %d, want %d", when, topic, got, want)
			}
		}
		alter(kmsg.ConfigResourceTypeTopic, "t", "retention.ms", "12345")
		retention("open", "t", 12345)
		alter(kmsg.ConfigResourceTypeBroker, "", "log.retention.ms", "777000")
		retention("its own setting wins", "t", 12345)
		h.produce(cl, "later", 1)
		retention("opened later", "later", 777000)
		alter(kmsg.ConfigResourceTypeBroker, "1", "log.retention.ms", "888000")
		retention("the broker's wins over the cluster's", "later", 888000)
		cl.Close()
		h.restart()
		retention("after a restart", "t", 12345)
		retention("after a restart", "later", 888000)
	})
}
