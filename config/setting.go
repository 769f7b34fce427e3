package config

// Type is a setting's type with the number it has on the wire (KIP-569,
// DescribeConfigsResponse.ConfigType).
type Type int8

// The types of Kafka's ConfigDef. Unknown is the type of a name that is not in
// the table.
const (
	Unknown  Type = 0
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
)

// String gives Kafka's name of the type.
func (t Type) String() string {
	names := [...]string{"UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"}
	if t < 0 || int(t) >= len(names) {
		return names[0]
	}
	return names[t]
}

// Scope is the kind of resource a setting belongs to.
type Scope int8

// The scopes. The same name may stand in more than one: compression.type is a
// setting of topics and of brokers.
const (
	Broker Scope = iota
	Topic
	Group
	ClientMetrics
)

// String names the scope as the tools' --entity-type does.
func (s Scope) String() string {
	return [...]string{"broker", "topic", "group", "client-metrics"}[s]
}

// Mode says how a broker setting can be changed at run time (KIP-226).
type Mode int8

// The modes. Settings of topics, groups and client metrics can always be
// changed; their rows say ReadOnly, which is not looked at.
const (
	ReadOnly Mode = iota
	PerBroker
	ClusterWide
)

// String gives the mode as Kafka's documentation does.
func (m Mode) String() string {
	return [...]string{"read-only", "per-broker", "cluster-wide"}[m]
}

// EffectKind says how far a setting works in this broker.
type EffectKind int8

// The kinds of Effect.
const (
	unstated EffectKind = iota // a row that forgot; the table's test fails
	// Works: as in Kafka.
	Works
	// Partly: Why says what works and what does not.
	Partly
	// Ignored: any valid value is accepted and changes nothing. Why gives the reason.
	Ignored
	// Refused: any value but the default stops the start, since ignoring it
	// would be unsafe. Why says what to do.
	Refused
)

// Effect says what a setting does in this broker.
type Effect struct {
	Kind EffectKind
	Why  string // a clause without a final stop; empty only for Works
}

// String is the text of the column in docs/CONFIG.md.
func (e Effect) String() string {
	switch e.Kind {
	case Partly:
		return "partly: " + e.Why
	case Ignored:
		return "accepted, no effect: " + e.Why
	case Refused:
		return "refused: " + e.Why
	case unstated:
		return "not stated"
	}
	return "works"
}

var works = Effect{Kind: Works}

func partly(why string) Effect  { return Effect{Partly, why} }
func none(why string) Effect    { return Effect{Ignored, why} }
func refused(why string) Effect { return Effect{Refused, why} }

// Setting is one row of the table.
type Setting struct {
	Name  string
	Scope Scope
	Type  Type

	// Default is Kafka's default as text. It means nothing if NoDefault (the
	// default is null) or Required (Kafka has none; Preset may).
	Default   string
	NoDefault bool
	Required  bool

	// Check is what a value has to meet beyond its type.
	Check Check

	Mode Mode
	// Internal settings are hidden from DescribeConfigs unless somebody set them.
	Internal bool
	// DynamicOnly settings are not part of the static definitions: they show up
	// only where a dynamic value was given.
	DynamicOnly bool

	// Synonyms are the broker settings that give a topic or group setting its
	// default, the strongest first; for a broker setting the family in which
	// the first that is set wins (itself included). Empty: itself alone, or no
	// broker setting at all.
	Synonyms []string

	Effect Effect
	// Doc is one or two sentences of documentation in our own words.
	Doc string
}

// Sensitive says that values are never shown.
func (s Setting) Sensitive() bool { return s.Type == Password || s.Type == Unknown }

// defaultText gives the default and whether there is one.
func (s Setting) defaultText() (string, bool) {
	return s.Default, !s.NoDefault && !s.Required
}

// Families of broker settings that hold one value in different units, the
// strongest first (DynamicBrokerConfig.brokerConfigSynonyms).
var (
	retentionNames = []string{"log.retention.ms", "log.retention.minutes", "log.retention.hours"}
	rollNames      = []string{"log.roll.ms", "log.roll.hours"}
	jitterNames    = []string{"log.roll.jitter.ms", "log.roll.jitter.hours"}
	flushNames     = []string{"log.flush.interval.ms", "log.flush.scheduler.interval.ms"}
)

// Reasons why settings have no effect here, shared by rows.
const (
	oneNode    = "one node has no replicas to fetch, no leaders to elect and no other broker to talk to"
	movequota  = "moves pause after each piece for as long as it takes at the allowed rate; nothing is sampled"
	threads    = "the Go runtime schedules the work; there is no pool of threads to size"
	lz4Levels  = "levels above 9 compress as 9 does"
	zstdLevels = "the encoder has four levels; the nearest is taken"
	prealloc   = "segments always reserve disk space ahead of their end, without a change of the file's size"
	purgatory  = "a waiting request is forgotten as soon as it is answered"
	early      = "every listener opens when the broker can serve"
	backlog    = "the operating system's own limit is used"
	connrate   = "the rate of new connections is not limited yet"
	queue      = "requests in memory are bounded by bytes, see queued.max.request.bytes"
	linger     = "records that arrive while a write is under way form the next write; there is no timer"
	commit     = "a commit is answered when its records are durable or the log has failed"
	loadbuffer = "state is read in batches of the log's own size"
	codec      = "coordinators write uncompressed records"
	buffers    = "write buffers are not kept by size"
	noop       = "an idle controller writes nothing"
	jmx        = "metrics are served in Prometheus format at /metrics"
	telemetry  = "client metrics are not collected yet"
	quota      = "quotas are not enforced yet"
	tiered     = "tiered storage is not supported; logs stay on the local disk"
	ssl        = "TLS listeners are not supported yet and are refused at start"
	sasl       = "SASL listeners are not supported yet and are refused at start"
	tokens     = "delegation tokens are not supported yet"
	share      = "share groups are not served yet"
	streams    = "streams groups are not served yet"
)
