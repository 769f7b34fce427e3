package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of the HTTP server. It is for a scraper, an orchestrator's probes and
// a person with a browser.
const (
	httpConnections   = 64               // open at once; more wait in the kernel
	httpScrapes       = 4                // at once; more answer 503
	httpHeaderBytes   = 16 << 10         // of one request's header
	httpHeaderTimeout = 5 * time.Second  // to send a request's header
	httpIdleTimeout   = 60 * time.Second // between requests: above a usual scrape interval
	httpWriteTimeout  = 60 * time.Second // to take an answer
)

// httpServer tells the world outside Kafka's protocol how the broker is:
// /metrics for Prometheus, /healthz (200 while the process answers at all) and
// /readyz (200 while the broker serves, else 503 with the reason); with
// rotpeter.http.profiles also Go's profiles under /debug/pprof/.
type httpServer struct {
	server   *http.Server
	listener net.Listener
	done     chan struct{}
	err      error // why serving ended, once done is closed
}

// startHTTP serves on the listener until close. ready says why the broker does
// not serve, or nil. profiles adds /debug/pprof/.
func startHTTP(listener net.Listener, m *metrics, ready func() error, logger *slog.Logger, profiles bool) *httpServer {
	mux := http.NewServeMux()
	if profiles {
		addProfiles(mux)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError, // one series that cannot be shown must not hide the others
		ErrorLog:            scrapeErrors{logger},
		MaxRequestsInFlight: httpScrapes,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writePlain(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			writePlain(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		writePlain(w, http.StatusOK, "serving")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		writePlain(w, http.StatusOK, "Rotpeter: /metrics /healthz /readyz")
	})
	h := &httpServer{listener: listener, done: make(chan struct{}), server: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: httpHeaderTimeout,
		ReadTimeout:       httpHeaderTimeout,
		WriteTimeout:      httpWriteTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // broken requests are their sender's fault
	}}
	go func() {
		defer close(h.done)
		if err := h.server.Serve(limitListener(listener, httpConnections)); !errors.Is(err, http.ErrServerClosed) {
			h.err = fmt.Errorf("serve metrics on %s: %w", listener.Addr(), err)
		}
	}()
	return h
}

// addProfiles adds Go's profiles. A CPU profile or a trace takes at most as long as an answer may.
func addProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

func writePlain(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n") // the reader may be gone, which is its own affair
}

func (h *httpServer) addr() net.Addr { return h.listener.Addr() }

// close lets the answers that are under way end, no longer than ctx allows,
// and waits for the server's goroutine. The error is what ended serving
// before, or the context's.
func (h *httpServer) close(ctx context.Context) error {
	err := h.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, h.server.Close())
	}
	<-h.done
	return errors.Join(err, h.err)
}

// scrapeErrors logs what a scrape could not show.
type scrapeErrors struct{ logger *slog.Logger }

func (s scrapeErrors) Println(v ...any) {
	s.logger.Error("metrics could not all be shown", "error", fmt.Sprint(v...))
}

// limitListener accepts no more than n connections at once.
func limitListener(l net.Listener, n int) net.Listener {
	return &limitedListener{Listener: l, free: make(chan struct{}, n), closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	free   chan struct{} // holds one element for each open connection
	closed chan struct{}
	once   sync.Once
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, free: l.free}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn makes room for another connection when it is closed, once.
type limitedConn struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.free })
	return err
}
