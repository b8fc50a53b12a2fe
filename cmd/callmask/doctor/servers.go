package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
)

const redisDoc = " (docs/redis.md)"

func (d *doctor) redis(ctx context.Context, r *report) {
	at := d.set.RedisAt()
	client, err := app.NewRedis(at, d.Timeout, 2)
	if err != nil {
		r.bad(Fail, "mend the setting", "%s", oneLine(err))
		return
	}
	defer func() { _ = client.Close() }() // nothing was written
	found, err := scripts.Look(ctx, client)
	if err != nil {
		r.bad(Fail, "start Redis, or set CALLMASK_REDIS_URL; its user may need more rights (deploy/redis/operator.acl)", "%s: %s", settings.Redact(at.URL), oneLine(err))
		return
	}
	for i := range found.Nodes {
		d.redisNode(r, &found.Nodes[i])
	}
	d.layout(r, &found)
}

func (d *doctor) redisNode(r *report, n *scripts.Node) {
	d.clocks.note("Redis "+n.Addr, n.Ahead, 0)
	role := "replica"
	if n.Master {
		role = "master"
	}
	memory := fmt.Sprintf("%d MiB used, no limit", n.Used>>20)
	if n.Most > 0 {
		memory = fmt.Sprintf("%d of %d MiB used", n.Used>>20, n.Most>>20)
	}
	before := len(r.found)
	if n.Old() {
		r.bad(Fail, "install Redis 7.0 or newer", "%s has version %s", n.Addr, n.Version)
	}
	if n.Policy != "noeviction" {
		r.bad(Fail, "set maxmemory-policy noeviction: an evicted key is a lost order", "%s has maxmemory-policy %s", n.Addr, n.Policy)
	}
	if n.WriteFails {
		r.bad(Fail, "make room on its disk and see its log", "%s could not write to its disk", n.Addr)
	}
	if !n.AOF {
		r.bad(Warn, "set appendonly yes: until it is repaired calls are refused after every restart"+redisDoc, "%s keeps no append-only file", n.Addr)
	}
	if n.Most > 0 && float64(n.Used) > 0.8*float64(n.Most) {
		r.bad(Warn, "give it more memory before it refuses orders (docs/sizing.md)", "%s: %s", n.Addr, memory)
	}
	if len(r.found) == before {
		r.ok("%s %s answers, version %s, %s", role, n.Addr, n.Version, memory)
	}
}

func (d *doctor) layout(r *report, s *scripts.Survey) {
	switch {
	case s.Schema == "":
		r.bad(Warn, "start an allocator or replenisher: it writes what is missing", "holds nothing of callmask's yet")
	case s.Schema != strconv.Itoa(scripts.Schema):
		r.bad(Fail, "run the callmask that made the data (docs/upgrade.md)", "holds data of schema %s, this callmask has %d", s.Schema, scripts.Schema)
	case d.set.Partitions != 0 && d.set.Partitions != s.Partitions:
		r.bad(Fail, "set CALLMASK_PARTITIONS to what the data was made with, or to 0", "has %d partitions, the setting says %d", s.Partitions, d.set.Partitions)
	case s.Cold > 0:
		r.bad(Fail, "Redis is new or has lost data: a replenisher restores it from the ledger, or callmask rebuild (docs/runbook.md)",
			"%d of %d partitions are not marked ready, so orders get no numbers there", s.Cold, s.Partitions)
	default:
		r.ok("schema %s, partitions %d, all ready", s.Schema, s.Partitions)
	}
}

const natsDoc = " (docs/nats.md)"

func (d *doctor) nats(ctx context.Context, r *report) {
	cfg := app.NATSConfig(d.set)
	cfg.Name, cfg.Timeout, cfg.Logger = "callmask doctor", d.Timeout, zerolog.Nop()
	at, _ := d.set.NATSAddress()
	bus, err := events.Connect(ctx, cfg)
	if err != nil {
		r.bad(Fail, "start NATS, or mend the setting that is named", "%s: %s", settings.Redact(at), oneLine(app.NATSError(err)))
		return
	}
	defer bus.Close()
	found, err := bus.Survey(ctx)
	switch {
	case err != nil:
		r.bad(Fail, "see the server's log; its user may need more rights (deploy/nats/permissions.conf)", "%s", oneLine(err))
		return
	case !found.JetStream:
		r.bad(Fail, "turn JetStream on (-js), for this account too"+natsDoc, "%s has no JetStream", settings.Redact(at))
		return
	}
	if found.Ahead != 0 {
		d.clocks.note("NATS", found.Ahead, 0)
	}
	d.natsServer(r, &found)
	streams(r, found.Streams)
}

func (d *doctor) natsServer(r *report, found *events.Survey) {
	where := "one server"
	if found.Cluster != "" {
		where = "cluster " + found.Cluster
	}
	used := fmt.Sprintf("%d MiB stored", found.Used>>20)
	if found.Most > 0 && float64(found.Used) > 0.8*float64(found.Most) {
		r.bad(Warn, "give the account more storage before orders are refused", "%s of %d MiB allowed", used, found.Most>>20)
	}
	r.ok("%s answers, version %s, %s, %s", found.Server, found.Version, where, used)
	if d.set.NATSURL != "" {
		r.bad(Warn, "make sure that its configuration has sync_interval: always, and cipher and key"+natsDoc,
			"whether each write is on the disk before it is acknowledged, and whether the store is encrypted, a client cannot see")
	}
}

// streams judges all of them, and tells of those that are well in one line.
func streams(r *report, all []events.StreamState) {
	var well []string
	for i := range all {
		s := &all[i]
		switch {
		case s.Missing:
			r.bad(Fail, "start an allocator or replenisher, which makes it", "stream %s does not exist", s.Name)
		case s.Problem != "":
			r.bad(Fail, "change the stream as it says, with the nats command", "stream %s %s", s.Name, s.Problem)
		case s.Behind > 0:
			r.bad(Warn, "start the servers that are down; a copy that is catching up needs some time", "stream %s: %d of %d copies are offline or behind", s.Name, s.Behind, s.Replicas)
		case s.Replicas < s.Wanted:
			r.bad(Warn, fmt.Sprintf("nats stream edit %s --replicas %d", s.Name, s.Wanted), "stream %s has %d copies, so it does not survive the loss of a server", s.Name, s.Replicas)
		default:
			well = append(well, s.Name)
		}
	}
	if len(well) > 0 {
		r.ok("streams %s are as they should be", strings.Join(well, ", "))
	}
}
