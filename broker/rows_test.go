package broker

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every row answers every one of its versions with bytes that decode, even to a
// request that has nothing in it.
func TestEveryVersionOfEveryRowAnswers(t *testing.T) {
	inBubble(t, func(h *harness) {
		for _, r := range h.b.rows {
			for v := r.Min; v <= r.Max; v++ {
				req := kmsg.RequestForKey(r.Key)
				if p, ok := req.(*kmsg.ProduceRequest); ok {
					p.Acks = 1 // with 0 there is no answer
				}
				c := h.raw()
				resp, err := c.call(req, v)
				c.nc.Close()
				if err != nil {
					t.Errorf("%s v%d: %v", kmsg.NameForKey(r.Key), v, err)
					continue
				}
				if got := resp.AppendTo(nil); len(got) == 0 {
					t.Errorf("%s v%d: nothing decoded", kmsg.NameForKey(r.Key), v)
				}
			}
		}
	})
}

// A version outside a row's range, and a key without a row, close the connection
// without an answer (apis.md W6).
func TestUnservedVersionsAndKeysHangUp(t *testing.T) {
	inBubble(t, func(h *harness) {
		for _, tc := range []struct {
			req     kmsg.Request
			version int16
		}{
			{kmsg.NewPtrProduceRequest(), 2}, {kmsg.NewPtrFetchRequest(), 3}, {kmsg.NewPtrListOffsetsRequest(), 0},
			{kmsg.NewPtrCreateTopicsRequest(), 1}, {kmsg.NewPtrLeaderAndISRRequest(), 4}, {kmsg.NewPtrVoteRequest(), 0},
		} {
			c := h.raw()
			c.send(tc.req, tc.version)
			if _, err := c.receive(); !errors.Is(err, io.EOF) {
				t.Errorf("%s v%d: %v, want the end of the connection", kmsg.NameForKey(tc.req.Key()), tc.version, err)
			}
			c.nc.Close()
		}
	})
}

// An unknown version of ApiVersions gets the v0 answer with its own range (KIP-511).
func TestApiVersionsOfAnUnknownVersion(t *testing.T) {
	inBubble(t, func(h *harness) {
		c := h.raw()
		defer c.nc.Close()
		c.send(kmsg.NewPtrApiVersionsRequest(), 5)
		body, err := c.receive()
		if err != nil {
			t.Fatal(err)
		}
		resp := kmsg.NewPtrApiVersionsResponse()
		if err := resp.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		if resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) != 1 || !sameRange(resp.ApiKeys[0], 18, 0, 4) {
			t.Errorf("got %+v", resp)
		}
		// The connection goes on.
		if _, err := c.call(kmsg.NewPtrApiVersionsRequest(), 0); err != nil {
			t.Errorf("the next request: %v", err)
		}
	})
}

func sameRange(k kmsg.ApiVersionsResponseApiKey, key, low, high int16) bool {
	return k.ApiKey == key && k.MinVersion == low && k.MaxVersion == high
}

// ApiVersions says what the table says, with Produce from 0 (KAFKA-18659), and
// hides features with minimum 0 below v4 (KAFKA-17011).
func TestApiVersionsTellsTheTable(t *testing.T) {
	inBubble(t, func(h *harness) {
		c := h.raw()
		defer c.nc.Close()
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "test", "1"
		for v := int16(0); v <= 4; v++ {
			got, err := c.call(req, v)
			if err != nil {
				t.Fatal(err)
			}
			resp := got.(*kmsg.ApiVersionsResponse)
			if len(resp.ApiKeys) != len(h.b.rows) {
				t.Fatalf("v%d: %d keys, want %d", v, len(resp.ApiKeys), len(h.b.rows))
			}
			if p := resp.ApiKeys[0]; !sameRange(p, 0, 0, 13) {
				t.Errorf("v%d: Produce is %+v", v, p)
			}
			names := map[string]bool{}
			for _, f := range resp.SupportedFeatures {
				names[f.Name] = true
			}
			if want := v >= 3; names["metadata.version"] != want {
				t.Errorf("v%d: metadata.version supported: %t", v, names["metadata.version"])
			}
			if want := v >= 4; names["kraft.version"] != want {
				t.Errorf("v%d: kraft.version supported: %t", v, names["kraft.version"])
			}
		}
		req.ClientSoftwareName = "not allowed!"
		got, err := c.call(req, 3)
		if err != nil {
			t.Fatal(err)
		}
		if code := got.(*kmsg.ApiVersionsResponse).ErrorCode; code != kerr.InvalidRequest.Code {
			t.Errorf("a bad software name answers %d", code)
		}
	})
}

// docs/APIS.md is what the table says.
func TestAPIsMarkdownIsCurrent(t *testing.T) {
	const file = "../docs/APIS.md"
	if *golden {
		if err := os.WriteFile(file, []byte(APIsMarkdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != APIsMarkdown() {
		t.Errorf("%s is not what the API table says: run make docs", file)
	}
}
