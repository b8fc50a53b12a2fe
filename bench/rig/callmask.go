package rig

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/callmask/callmask/bench/proc"
	"github.com/callmask/callmask/bench/world"
)

// Callmask is the product, one role of it or all.
type Callmask struct {
	Server // Addr is the listener for carriers; nobody's without the router

	Admin string
	NATS  string // with role all and an own NATS: its address
}

// CallmaskOptions says how to start the product.
type CallmaskOptions struct {
	Role string
	// Redis and NATS are URLs. Without a Redis role all starts its own. A router
	// without a NATS is given the address of nobody: it answers calls all the same,
	// and publishes no events about them.
	Redis, NATS string
	// Pool holds further lines of the pool, such as "low_water: 10".
	Pool []string
	// Binary is the program to start instead of the one that the Rig has.
	Binary string
	// Flags are further flags of the command, Env further environment.
	Flags, Env []string
	// DataDir is where role all keeps its files; empty: in the Rig's directory.
	DataDir string
}

// Callmask starts the product and waits until it is ready.
func (r *Rig) Callmask(ctx context.Context, o CallmaskOptions) (*Callmask, error) {
	var addr [4]string // http, admin, embedded Redis, embedded NATS
	for i := range addr {
		var err error
		if addr[i], err = FreeAddr(ctx); err != nil {
			return nil, err
		}
	}
	name := r.name("callmask-" + o.Role)
	config := filepath.Join(r.Dir, name+".yaml")
	if err := os.WriteFile(config, []byte(settings(o.Pool)), 0o600); err != nil {
		return nil, err
	}
	env := []string{
		"CALLMASK_CONFIG=" + config, "CALLMASK_HTTP_ADDR=" + addr[0], "CALLMASK_ADMIN_ADDR=" + addr[1],
		"CALLMASK_KEYSET=" + r.Keyset, "CALLMASK_API_TOKEN=" + world.APIToken, "CALLMASK_LOG_LEVEL=warn", "CALLMASK_LOG_FORMAT=json",
		"CALLMASK_DATA_DIR=" + cmp.Or(o.DataDir, filepath.Join(r.Dir, name)), "CALLMASK_EMBEDDED_REDIS_ADDR=" + addr[2], "CALLMASK_EMBEDDED_NATS_ADDR=" + addr[3],
		"CALLMASK_REDIS_URL=" + o.Redis, "CALLMASK_NATS_URL=" + o.NATS, "CALLMASK_RING_TIMEOUT=30s", "CALLMASK_MAX_CALL_DURATION=1h",
	}
	if o.NATS == "" && o.Role == "router" {
		env = append(env, "CALLMASK_NATS_URL=nats://"+addr[3], "CALLMASK_RECORD_CALLS=false")
	}
	env = append(env, o.Env...)
	child, err := r.starter.Start(ctx, proc.Spec{Name: name, Path: cmp.Or(o.Binary, r.callmask), Args: append([]string{o.Role}, o.Flags...), Env: env, Tree: o.Role == "all", Abrupt: o.Role != "all"})
	if err != nil {
		return nil, err
	}
	ready := func(ctx context.Context) error { return get(ctx, "http://"+addr[1]+"/readyz") }
	if err := child.Await(ctx, startTime, ready); err != nil {
		return nil, err
	}
	return &Callmask{Server: Server{Child: child, Addr: addr[0]}, Admin: addr[1], NATS: "nats://" + addr[3]}, nil
}

// settings is the file that every role is started with.
func settings(pool []string) string {
	text := fmt.Sprintf(`pools:
  - name: %s
    region: US
    cooldown: %s
    ttl: {default: 24h, max: 24h}
`, world.Pool, world.Cooldown)
	for _, line := range pool {
		text += "    " + line + "\n"
	}
	return text + fmt.Sprintf(`carriers:
  - name: %s
    id: %d
    kind: twilio
    account_sid: %s
    auth_tokens: [%q]
    call_status: false # the peers' answers ask for no callback either
    public_url: %s
`, world.Carrier, world.CarrierID, world.AccountSID, world.AuthToken, world.PublicURL)
}
