package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/rotpeter/rotpeter/config"
	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/internal/poison"
	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// Options say what a broker is made of. Config, FS, Dir, NewID and Random are
// required; nothing is read from the environment.
type Options struct {
	Config *config.Config
	FS     vfs.FS
	// Dir is the directory of the metadata log. LogDirs are those of partitions, in the order
	// of log.dirs; none means Dir alone. They are made if they do not exist.
	Dir     string
	LogDirs []string
	// OpenFiles bounds how many files of segments are kept open, over all directories; 0 means 1024 in each.
	OpenFiles int

	// Listeners are open sockets, which the broker closes when it stops.
	Listeners []Listener
	// MemoryMax is the limit, in bytes, that the budgets of memory follow from; 0: rotpeter.memory.max of Config. Only the
	// process itself can hold Go's heap below it (debug.SetMemoryLimit).
	MemoryMax int64
	// HTTP, if not nil, serves /metrics, /healthz and /readyz.
	HTTP net.Listener

	Authorizer Authorizer // nil: AllowAll
	Log        *slog.Logger
	Version    string // shown in the metrics

	NewID  func() [16]byte // random ids for topics, the cluster, directories and incarnations
	Random func() int32    // random fetch session ids
}

// Listener is a socket with the name that the configuration gave it and the
// address that clients are told to come back to.
type Listener struct {
	Name string
	Net  net.Listener
	Host string // advertised; empty: the socket's own
	Port int32  // advertised; 0: the socket's own
}

// Broker is a running broker. It is safe for concurrent use.
type Broker struct {
	log        *slog.Logger
	conf       atomic.Pointer[config.Config]
	plainView  atomic.Pointer[resolved] // see topicLogConfig
	lastView   atomic.Pointer[resolved]
	static     *config.Config
	authorizer Authorizer
	newID      func() [16]byte

	fs        vfs.FS
	logDirs   []string
	nodeID    int32
	clusterID string
	dirID     [16]byte // of the metadata log's directory

	quorum metadata.Quorum // as of the start; the image has what it is now

	rack      *string
	endpoints map[string]endpoint

	durableAcks    bool
	fetchMaxBytes  int
	partitionLimit int

	img         atomic.Pointer[metadata.Image]
	meta        *coordinator.Shell
	metaLog     *log.Log
	dirs        *log.Dirs
	placer      *placer
	snapshots   *snapshots // of the metadata log
	parts       *partitions
	groups      *groups
	txns        *transactions
	sessions    *sessionCache
	producerIDs *producerIDs
	metrics     *metrics
	rows        []protocol.Row
	servers     map[string]*protocol.Server // by listener; complete before anything serves
	http        *httpServer
	credit      *protocol.Credit
	memory      *memoryGuard
	connIDs     atomic.Uint64 // the newest connection of all listeners

	producePool poison.Pool[produceState]
	fetchPool   poison.Pool[fetchState]

	state   atomic.Int64
	changes chan change // what the metadata shard decided, for the reaper
	orphans orphans
	life    context.Context // ends when Close begins to take things apart
	end     context.CancelFunc
	wg      sync.WaitGroup
	failed  chan struct{} // closed when the broker cannot go on
	failure error
	once    sync.Once
}

type endpoint struct {
	Host string
	Port int32
}

// Start opens the data directory, brings the metadata up to date and serves.
// When it returns without an error, clients can connect.
func Start(ctx context.Context, o Options) (*Broker, error) {
	b, err := newBroker(o)
	if err != nil {
		return nil, err
	}
	if err := b.open(ctx, o); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	if err := b.serve(o); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	b.state.Store(int64(stateRunning))
	return b, nil
}

func newBroker(o Options) (*Broker, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Authorizer == nil {
		o.Authorizer = AllowAll{}
	}
	if o.MemoryMax == 0 {
		o.MemoryMax = o.Config.Int("rotpeter.memory.max")
	}
	memory, err := o.Config.Memory(o.MemoryMax)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		memory: newMemoryGuard(memory),
		log:    o.Log, fs: o.FS, logDirs: o.LogDirs, static: o.Config, authorizer: o.Authorizer, newID: o.NewID,
		nodeID:         o.Config.NodeID(),
		durableAcks:    o.Config.Text("rotpeter.acks.all") == "disk",
		fetchMaxBytes:  int(o.Config.Int("fetch.max.bytes")),
		partitionLimit: int(o.Config.Int("max.request.partition.size.limit")),
		endpoints:      map[string]endpoint{},
		sessions:       newSessionCache(int(o.Config.Int("max.incremental.fetch.session.cache.slots")), memory.SessionPartitions, o.Random),
		changes:        make(chan change, 64),
		orphans:        orphans{wake: make(chan struct{}, 1)},
		failed:         make(chan struct{}),
	}
	if len(b.logDirs) == 0 {
		b.logDirs = []string{o.Dir}
	}
	b.life, b.end = context.WithCancel(context.Background())
	b.conf.Store(o.Config)
	b.state.Store(int64(stateStarting))
	if rack := o.Config.Text("broker.rack"); rack != "" {
		b.rack = &rack
	}
	for _, l := range o.Listeners {
		ep, err := advertised(l)
		if err != nil {
			return nil, err
		}
		b.endpoints[l.Name] = ep
	}
	b.metrics = newMetrics(b.apis(), o.Version, b.facts)
	b.rows = b.makeRows()
	return b, nil
}

// advertised completes what the configuration left to the socket.
func advertised(l Listener) (endpoint, error) {
	ep := endpoint{Host: l.Host, Port: l.Port}
	if ep.Host != "" && ep.Port != 0 {
		return ep, nil
	}
	host, port, err := net.SplitHostPort(l.Net.Addr().String())
	if err != nil {
		return ep, fmt.Errorf("advertise listener %s: its address %q has no port: %w", l.Name, l.Net.Addr(), err)
	}
	if ep.Host == "" {
		ep.Host = host
	}
	if ep.Port == 0 {
		n, err := strconv.ParseInt(port, 10, 32)
		if err != nil {
			return ep, fmt.Errorf("advertise listener %s: port %q: %w", l.Name, port, err)
		}
		ep.Port = int32(n)
	}
	return ep, nil
}

// image is the cluster's metadata at this moment.
func (b *Broker) image() *metadata.Image { return b.img.Load() }

// endpoint is the address that clients of a listener are told.
func (b *Broker) endpoint(listener string) endpoint { return b.endpoints[listener] }

// Addr is the address of the named listener as clients are told it, "host:port".
func (b *Broker) Addr(listener string) string {
	ep := b.endpoints[listener]
	return net.JoinHostPort(ep.Host, itoa(int(ep.Port)))
}

// HTTPAddr is the address of the metrics server, or "".
func (b *Broker) HTTPAddr() string {
	if b.http == nil {
		return ""
	}
	return b.http.addr().String()
}

// Failed is closed when the broker cannot go on serving: its data directory is
// offline. Err says why.
func (b *Broker) Failed() <-chan struct{} { return b.failed }

// Err is the reason for which Failed was closed.
func (b *Broker) Err() error {
	select {
	case <-b.failed:
		return b.failure
	default:
		return nil
	}
}

func (b *Broker) fail(err error) {
	b.once.Do(func() {
		b.failure = err
		close(b.failed)
	})
}

// ready says why the broker does not serve, or nil.
func (b *Broker) ready() error {
	if err := b.Err(); err != nil {
		return err
	}
	if s := brokerState(b.state.Load()); s != stateRunning {
		return fmt.Errorf("the broker is not serving: state %d", s)
	}
	return nil
}

// serve opens the doors: everything behind them is ready.
func (b *Broker) serve(o Options) error {
	b.credit = protocol.NewCredit(b.memory.limits.RequestBytes)
	servers := map[string]*protocol.Server{}
	for _, l := range o.Listeners {
		s, err := protocol.NewServer(protocol.Options{
			Rows: b.rows, Listener: l.Name, Limits: limits(o.Config, &b.memory.limits), Log: b.log.With(slog.String("listener", l.Name)),
			Observe: b.metrics.observe, Credit: b.credit, ConnIDs: &b.connIDs, Short: b.memory.short,
		})
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		servers[l.Name] = s
	}
	b.servers = servers
	for _, l := range o.Listeners {
		b.wg.Go(func() {
			if err := servers[l.Name].Serve(l.Net); err != nil {
				b.fail(fmt.Errorf("listener %s: %w", l.Name, err))
			}
		})
	}
	if o.HTTP != nil {
		b.http = startHTTP(o.HTTP, b.metrics, b.ready, b.log, o.Config.Bool("rotpeter.http.profiles"))
	}
	b.wg.Go(b.warmUp)
	return nil
}

// limits are the protocol's bounds as the configuration sets them.
func limits(c *config.Config, m *config.Memory) protocol.Limits {
	l := protocol.DefaultLimits()
	l.FrameBytes, l.OtherFrameBytes, l.Connections = int(m.FrameBytes), int(m.OtherFrameBytes), m.Connections
	l.DecodedBytes = int(min(int64(l.DecodedBytes), m.RequestBytes*3/4))
	// Kafka has no limit of its own here; ours stands unless the user's is smaller.
	l.ConnectionsPerAddress = min(l.ConnectionsPerAddress, int(c.Int("max.connections.per.ip")))
	if idle := c.Int("connections.max.idle.ms"); idle > 0 {
		l.IdleTime = millis(idle)
	}
	return l
}

// Close stops the broker in the reverse order of its start: it stops accepting,
// lets busy requests finish until ctx ends, and leaves the data directory clean.
func (b *Broker) Close(ctx context.Context) error {
	if !b.state.CompareAndSwap(int64(stateRunning), int64(statePendingShutdown)) {
		if !b.state.CompareAndSwap(int64(stateStarting), int64(stateShuttingDown)) {
			return nil
		}
	}
	var all error
	for _, s := range b.servers {
		all = errors.Join(all, s.Shutdown(ctx))
	}
	b.state.Store(int64(stateShuttingDown))
	b.end()
	if b.groups != nil {
		all = errors.Join(all, b.txns.Close(), b.groups.Close())
	}
	if b.meta != nil {
		all = errors.Join(all, b.lastAssignments(ctx), b.fence(ctx), b.meta.Close())
	}
	if b.parts != nil {
		b.parts.stop()
	}
	b.wg.Wait()
	if b.dirs != nil {
		all = errors.Join(all, b.dirs.Close())
	}
	if b.http != nil {
		all = errors.Join(all, b.http.close(ctx))
	}
	b.state.Store(int64(stateNotRunning))
	return all
}

// lastAssignments records where partitions are that were placed just before the stop.
func (b *Broker) lastAssignments(ctx context.Context) error {
	if b.dirs.MetadataErr() != nil || b.image() == nil {
		return nil
	}
	if err := b.placer.flush(ctx); err != nil {
		return fmt.Errorf("record the directories of partitions: %w", err)
	}
	return nil
}

// fence takes the node out of service in the metadata log, so that a Kafka that is
// started on the directory need not wait for a session to end.
func (b *Broker) fence(ctx context.Context) error {
	if b.dirs.MetadataErr() != nil || b.image() == nil {
		return nil
	}
	reply, err := b.askMetadata(ctx, metadata.FenceBroker{})
	if err != nil {
		return fmt.Errorf("fence the broker: %w", err)
	}
	b.dirs.SetBrokerEpoch(reply.(metadata.Fenced).Epoch)
	return nil
}

func itoa[N int | int32 | int64](n N) string { return strconv.FormatInt(int64(n), 10) }

func ptr[T any](v T) *T { return &v }
