package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestHTTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var reason atomic.Pointer[error]
	ready := func() error {
		if p := reason.Load(); p != nil {
			return *p
		}
		return nil
	}
	h := startHTTP(listener, testMetrics(&brokerFacts{State: stateRunning}), ready, slog.New(slog.DiscardHandler), false)
	client := &http.Client{}
	ask := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+h.addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/healthz", 200, "alive\n"},
		{"GET", "/readyz", 200, "serving\n"},
		{"HEAD", "/readyz", 200, ""},
		{"GET", "/metrics", 200, "kafka_server_kafkaserver_brokerstate 3\n"},
		{"GET", "/", 200, "/metrics"},
		{"GET", "/elsewhere", 404, ""},
		{"GET", "/debug/pprof/heap", 404, ""},
		{"POST", "/readyz", 405, ""},
		{"DELETE", "/metrics", 405, ""},
	} {
		status, body := ask(c.method, c.path)
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s %s answers %d %.200q, want %d with %q", c.method, c.path, status, body, c.status, c.body)
		}
	}

	loading := errors.New("recovery: 3 logs to go")
	reason.Store(&loading)
	if status, body := ask("GET", "/readyz"); status != 503 || body != "recovery: 3 logs to go\n" {
		t.Errorf("while it recovers, /readyz answers %d %q", status, body)
	}
	if status, _ := ask("GET", "/healthz"); status != 200 {
		t.Errorf("while it recovers, /healthz answers %d", status)
	}

	client.CloseIdleConnections()
	if err := h.close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := net.Dial("tcp", h.addr().String()); err == nil {
		t.Error("the port still accepts after close")
	}
}

// TestHTTPListenerLimit: the connection beyond the limit is accepted when an
// earlier one closes, and closing the listener ends an Accept that waits.
// Profiles are served where they are asked for, and only then (TestHTTP).
func TestHTTPProfiles(t *testing.T) {
	mux := http.NewServeMux()
	addProfiles(mux)
	for path, want := range map[string]string{
		"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "TestHTTPProfiles", "/debug/pprof/cmdline": "test", "/debug/pprof/trace?seconds=0.01": "",
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %d bytes, without %q", path, w.Code, w.Body.Len(), want)
		}
	}
}

func TestHTTPListenerLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limitListener(pipeListener{}, 1)
		type accepted struct {
			conn net.Conn
			err  error
		}
		next := make(chan accepted, 1)
		accept := func() {
			c, err := l.Accept()
			next <- accepted{c, err}
		}
		first, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go accept()
		synctest.Wait()
		if len(next) != 0 {
			t.Fatal("a second connection was accepted over the limit")
		}
		first.Close()
		first.Close() // closing twice must not make room twice
		second := <-next
		if second.err != nil {
			t.Fatal(second.err)
		}
		go accept()
		synctest.Wait()
		if len(next) != 0 {
			t.Fatal("a third connection was accepted over the limit")
		}
		l.Close()
		if a := <-next; !errors.Is(a.err, net.ErrClosed) {
			t.Errorf("Accept on a closed listener ends with %v", a.err)
		}
		second.conn.Close()
	})
}

// pipeListener has a new connection for everybody who asks.
type pipeListener struct{}

func (pipeListener) Accept() (net.Conn, error) {
	_, c := net.Pipe()
	return c, nil
}
func (pipeListener) Close() error   { return nil }
func (pipeListener) Addr() net.Addr { return nil }
