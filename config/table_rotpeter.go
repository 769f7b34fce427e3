package config

// rotpeterSettings are settings that Apache Kafka does not have.
var rotpeterSettings = []Setting{
	{Name: "rotpeter.acks.all", Type: String, Default: "disk", Check: oneOf("disk", "cache"),
		Effect: works, Doc: "What acks=all waits for: disk, the records are on stable storage; cache, they are in the operating system's page cache, as Apache Kafka answers by default."},
	{Name: "rotpeter.http.listener", Type: String, Default: "localhost:9644", Check: hostPort(),
		Effect: works, Doc: "Address, as host:port, of the HTTP server with /metrics, /healthz and /readyz. Port 0 lets the system choose; an empty value turns the server off."},
	{Name: "rotpeter.http.profiles", Type: Boolean, Default: "false",
		Effect: works, Doc: "Whether the HTTP server also has Go's profiles under /debug/pprof/. They tell how the broker works, cost it time while they are taken, and are for whoever may see that."},
	{Name: "rotpeter.syncfs", Type: String, Default: "auto", Check: oneOf("auto", "always", "never"),
		Effect: works, Doc: "Whether many dirty logs are made durable by one sync of the whole file system: auto does so when the data directory is a mount of its own."},
	{Name: "rotpeter.log.format", Type: String, Default: "text", Check: oneOf("text", "json"),
		Effect: works, Doc: "Format of the broker's own log lines."},
	{Name: "rotpeter.log.level", Type: String, Default: "info", Check: oneOf("debug", "info", "warn", "error"),
		Effect: works, Doc: "Least severe level of the broker's own log lines."},
	{Name: "rotpeter.memory.max", Type: Long, Default: "0", Check: atLeast(0),
		Effect: works, Doc: "Bytes of memory that the process may take, at most; the budgets of requests, connections, compaction and so on follow from it. 0: GOMEMLIMIT if that is set, else nine tenths of the cgroup's limit if there is one, else no limit."},
	{Name: "rotpeter.request.memory.bytes", Type: Long, Default: "536870912", Check: atLeast(1),
		Effect: works, Doc: "Bytes of requests held in memory at a time, over all connections, when queued.max.request.bytes is -1; with rotpeter.memory.max it follows from that unless it is set. No request may take more than a quarter of it."},
}
