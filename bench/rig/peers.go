package rig

import (
	"context"
	"strings"

	"github.com/callmask/callmask/bench/peers"
	"github.com/callmask/callmask/bench/proc"
	"github.com/callmask/callmask/bench/world"
)

// Peer starts a peer written in Go.
func (r *Rig) Peer(ctx context.Context, kind string, redis *Redis, prefix, dsn string) (*Server, error) {
	return r.announced(ctx, proc.Spec{
		Name: kind, Path: r.self,
		Args: []string{"peer", kind, "--redis", redis.Addr, "--prefix", prefix, "--keyset", r.Keyset, "--dsn", dsn},
	})
}

// Node starts the peer on Node.js; an error tells what is missing for it.
func (r *Rig) Node(ctx context.Context, redis *Redis, prefix string) (*Server, error) {
	node, script, err := peers.InstallNode(ctx)
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(redis.Addr, ":")
	return r.announced(ctx, proc.Spec{
		Name: "node", Path: node, Args: []string{script},
		Env: []string{
			"NODE_ENV=production", "PEER_KEYSET=" + r.Keyset, "PEER_REDIS_PORT=" + port, "PEER_PREFIX=" + prefix,
			"PEER_PATH=" + world.VoicePath, "PEER_PUBLIC_URL=" + world.PublicURL,
			"PEER_ACCOUNT_SID=" + world.AccountSID, "PEER_AUTH_TOKEN=" + world.AuthToken,
		},
	})
}
