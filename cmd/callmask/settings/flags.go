package settings

// Flags declares a flag for every single-valued setting, for commands to embed.
// Load reads them by name, because only so does it know which were given.
type Flags struct {
	Config                string `env:"CALLMASK_CONFIG" placeholder:"FILE" help:"Settings file with pools and carriers."`
	HTTPAddr              string `name:"http-addr" env:"CALLMASK_HTTP_ADDR" placeholder:"ADDR" group:"Settings:" help:"Listener for carriers; :8080 by default."`
	AdminAddr             string `name:"admin-addr" env:"CALLMASK_ADMIN_ADDR" placeholder:"ADDR" group:"Settings:" help:"Private listener; 127.0.0.1:9090 by default."`
	DataDir               string `name:"data-dir" env:"CALLMASK_DATA_DIR" placeholder:"DIR" group:"Settings:" help:"Where 'all' keeps its data; ./data by default."`
	RedisURL              string `name:"redis-url" env:"CALLMASK_REDIS_URL" placeholder:"URL" group:"Settings:" help:"redis:// or rediss:// (TLS); several addresses or ?cluster=true for a Cluster, ?master_name= for Sentinels."`
	RedisCAFile           string `name:"redis-ca-file" env:"CALLMASK_REDIS_CA_FILE" placeholder:"FILE" group:"Settings:" help:"Certificates of the authorities that Redis's certificate may be of; the system's by default."`
	RedisCertFile         string `name:"redis-cert-file" env:"CALLMASK_REDIS_CERT_FILE" placeholder:"FILE" group:"Settings:" help:"Our own certificate for Redis, if it asks for one."`
	RedisKeyFile          string `name:"redis-key-file" env:"CALLMASK_REDIS_KEY_FILE" placeholder:"FILE" group:"Settings:" help:"Its private key."`
	RedisServerName       string `name:"redis-server-name" env:"CALLMASK_REDIS_SERVER_NAME" placeholder:"NAME" group:"Settings:" help:"Name in the certificates of Redis's servers; by default each one's address."`
	Partitions            string `name:"partitions" env:"CALLMASK_PARTITIONS" placeholder:"N" group:"Settings:" help:"Over how many hash tags the keys are spread, once and for all; 0 (default) is what Redis holds, or 1 on a single Redis and 16 on a Cluster."`
	NATSURL               string `name:"nats-url" env:"CALLMASK_NATS_URL" placeholder:"URL" group:"Settings:" help:"nats:// or tls://; several with commas."`
	NATSToken             string `name:"nats-token" env:"CALLMASK_NATS_TOKEN" placeholder:"TOKEN" group:"Settings:" help:"Token for NATS."`
	NATSCreds             string `name:"nats-creds" env:"CALLMASK_NATS_CREDS" placeholder:"FILE" group:"Settings:" help:"Credentials file for NATS (JWT and NKey, or an NKey seed); read anew at each connection."`
	NATSCA                string `name:"nats-ca" env:"CALLMASK_NATS_CA" placeholder:"FILE" group:"Settings:" help:"PEM file of who may have signed NATS's certificate; by default whom the system trusts."`
	NATSCert              string `name:"nats-cert" env:"CALLMASK_NATS_CERT" placeholder:"FILE" group:"Settings:" help:"Client certificate for NATS, PEM."`
	NATSKey               string `name:"nats-key" env:"CALLMASK_NATS_KEY" placeholder:"FILE" group:"Settings:" help:"Its key, PEM."`
	NATSReplicas          string `name:"nats-replicas" env:"CALLMASK_NATS_REPLICAS" placeholder:"N" group:"Settings:" help:"Copies of each stream: 1, 3, 5 or auto (default), which is 3 on a NATS cluster and 1 elsewhere."`
	OrdersStream          string `name:"orders-stream" env:"CALLMASK_ORDERS_STREAM" placeholder:"NAME" group:"Settings:" help:"Stream that brings order events; ORDERS by default."`
	OrdersPrefix          string `name:"orders-prefix" env:"CALLMASK_ORDERS_PREFIX" placeholder:"NAME" group:"Settings:" help:"First part of their subjects; orders by default."`
	APIToken              string `name:"api-token" env:"CALLMASK_API_TOKEN" placeholder:"TOKEN" group:"Settings:" help:"Bearer token of the private API; 'all' creates one."`
	ReadToken             string `name:"read-token" env:"CALLMASK_READ_TOKEN" placeholder:"TOKEN" group:"Settings:" help:"Lets people into the console who may look and change nothing; none by default."`
	Keyset                string `name:"keyset" env:"CALLMASK_KEYSET" placeholder:"FILE" group:"Settings:" help:"Keyset file; 'all' creates one."`
	LogLevel              string `name:"log-level" env:"CALLMASK_LOG_LEVEL" placeholder:"LEVEL" group:"Settings:" help:"trace, debug, info (default), warn or error."`
	LogFormat             string `name:"log-format" env:"CALLMASK_LOG_FORMAT" placeholder:"FORMAT" group:"Settings:" help:"json, console or auto (default)."`
	EmbeddedRedisAddr     string `name:"embedded-redis-addr" env:"CALLMASK_EMBEDDED_REDIS_ADDR" placeholder:"ADDR" group:"Settings:" help:"Own Redis; 127.0.0.1:6390 by default, port 0 for any."`
	EmbeddedRedisPassword string `name:"embedded-redis-password" env:"CALLMASK_EMBEDDED_REDIS_PASSWORD" placeholder:"WORD" group:"Settings:" help:"Needed when that address is not loopback."`
	EmbeddedNATSAddr      string `name:"embedded-nats-addr" env:"CALLMASK_EMBEDDED_NATS_ADDR" placeholder:"ADDR" group:"Settings:" help:"Own NATS; 127.0.0.1:4222 by default, port 0 for any."`
	EmbeddedNATSToken     string `name:"embedded-nats-token" env:"CALLMASK_EMBEDDED_NATS_TOKEN" placeholder:"TOKEN" group:"Settings:" help:"Needed when that address is not loopback."`
	Tombstone             string `name:"tombstone" env:"CALLMASK_TOMBSTONE" placeholder:"TIME" group:"Settings:" help:"How long an ended order is remembered; 25h by default."`
	ResolveTimeout        string `name:"resolve-timeout" env:"CALLMASK_RESOLVE_TIMEOUT" placeholder:"TIME" group:"Settings:" help:"How long a call may wait for Redis; 250ms by default."`
	Coalesce              string `name:"coalesce" env:"CALLMASK_COALESCE" placeholder:"BOOL" group:"Settings:" help:"Let calls that come at the same time share a round trip to Redis; true by default."`
	AutoRebuild           string `name:"auto-rebuild" env:"CALLMASK_AUTO_REBUILD" placeholder:"BOOL" group:"Settings:" help:"Have the replenisher restore a Redis that has lost its data from the ledger; true by default. Turned off, nothing is allocated or bought until callmask rebuild was run."`
	RecordCalls           string `name:"record-calls" env:"CALLMASK_RECORD_CALLS" placeholder:"BOOL" group:"Settings:" help:"Publish what was answered to each call and message, and what carriers tell of calls (stream CALLS); true by default. Turned off, nobody can look up later why a call was refused."`
	RedactNumbers         string `name:"redact-numbers" env:"CALLMASK_REDACT_NUMBERS" placeholder:"BOOL" group:"Settings:" help:"Take what could be a telephone number out of relayed messages; false by default."`
	RingTimeout           string `name:"ring-timeout" env:"CALLMASK_RING_TIMEOUT" placeholder:"TIME" group:"Settings:" help:"How long to ring; 30s by default."`
	MaxCallDuration       string `name:"max-call-duration" env:"CALLMASK_MAX_CALL_DURATION" placeholder:"TIME" group:"Settings:" help:"How long a call may last; 1h by default."`
	RefusalsPerMinute     string `name:"refusals-per-minute" env:"CALLMASK_REFUSALS_PER_MINUTE" placeholder:"N" group:"Settings:" help:"Refused calls per caller or number before rate_limited; 60 by default."`
	AuditEvery            string `name:"audit-every" env:"CALLMASK_AUDIT_EVERY" placeholder:"DURATION" group:"Settings:" help:"How often the acting replenisher holds Redis and the ledger against each other and against the promises; 10m by default, 0 for never."`
	AuditRate             string `name:"audit-rate" env:"CALLMASK_AUDIT_RATE" placeholder:"N" group:"Settings:" help:"Keys of Redis that it reads a second, or four times as many records of NATS; 50000 by default."`
	MessagesPerMinute     string `name:"messages-per-minute" env:"CALLMASK_MESSAGES_PER_MINUTE" placeholder:"N" group:"Settings:" help:"Messages relayed of one caller to one number before the rest is dropped; 20 by default."`
	DrainDelay            string `name:"drain-delay" env:"CALLMASK_DRAIN_DELAY" placeholder:"TIME" group:"Settings:" help:"From 'not ready' to closing the listeners: longer than a load balancer takes to notice; 0s by default."`
	ShutdownTimeout       string `name:"shutdown-timeout" env:"CALLMASK_SHUTDOWN_TIMEOUT" placeholder:"TIME" group:"Settings:" help:"How long a clean end may take; 15s by default."`
}

// ServerFlags declares the flags of commands that ask a running system.
type ServerFlags struct {
	Config    string `env:"CALLMASK_CONFIG" placeholder:"FILE" help:"Settings file."`
	AdminAddr string `name:"admin-addr" env:"CALLMASK_ADMIN_ADDR" placeholder:"ADDR" help:"Private listener of the running system; 127.0.0.1:9090 by default."`
	APIToken  string `name:"api-token" env:"CALLMASK_API_TOKEN" placeholder:"TOKEN" help:"Its token; by default the one in the data directory."`
	DataDir   string `name:"data-dir" env:"CALLMASK_DATA_DIR" placeholder:"DIR" help:"Where 'all' keeps its data; ./data by default."`
}

// DataFlags declares the flags of commands that read Redis and the keyset themselves.
type DataFlags struct {
	Config                string `env:"CALLMASK_CONFIG" placeholder:"FILE" help:"Settings file."`
	DataDir               string `name:"data-dir" env:"CALLMASK_DATA_DIR" placeholder:"DIR" help:"Where 'all' keeps its data; ./data by default."`
	RedisURL              string `name:"redis-url" env:"CALLMASK_REDIS_URL" placeholder:"URL" help:"Redis; by default the one that 'all' runs."`
	RedisCAFile           string `name:"redis-ca-file" env:"CALLMASK_REDIS_CA_FILE" placeholder:"FILE" help:"Certificates of the authorities that Redis's certificate may be of; the system's by default."`
	RedisCertFile         string `name:"redis-cert-file" env:"CALLMASK_REDIS_CERT_FILE" placeholder:"FILE" help:"Our own certificate for Redis, if it asks for one."`
	RedisKeyFile          string `name:"redis-key-file" env:"CALLMASK_REDIS_KEY_FILE" placeholder:"FILE" help:"Its private key."`
	RedisServerName       string `name:"redis-server-name" env:"CALLMASK_REDIS_SERVER_NAME" placeholder:"NAME" help:"Name in the certificates of Redis's servers; by default each one's address."`
	EmbeddedRedisAddr     string `name:"embedded-redis-addr" env:"CALLMASK_EMBEDDED_REDIS_ADDR" placeholder:"ADDR" help:"Where that one listens."`
	EmbeddedRedisPassword string `name:"embedded-redis-password" env:"CALLMASK_EMBEDDED_REDIS_PASSWORD" placeholder:"WORD" help:"Its password."`
}
