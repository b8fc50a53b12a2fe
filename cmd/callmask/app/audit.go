package app

import (
	"context"
	"time"

	"github.com/callmask/callmask/audit"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/scripts"
)

// An audit reads whole pages, which may take longer than what a caller waits for, and looks
// at suspects eight at a time.
const (
	auditTimeout = 5 * time.Second
	auditConns   = 16
)

// guard starts the audit, over connections of its own. It runs where acting says so.
func (a *App) guard(ctx context.Context, acting func() bool) error {
	if a.set.AuditEvery == 0 {
		return nil
	}
	client, err := NewRedis(a.redisAt(), auditTimeout, auditConns)
	if err != nil {
		return err
	}
	a.onEnd("redis client of the audit", func(context.Context) error { return client.Close() })
	store, err := scripts.New(scripts.Config{Partitions: a.store.Partitions(), Tombstone: a.set.Tombstone, Timeout: auditTimeout}, client, nil)
	if err != nil {
		return settings.Named("tombstone", err)
	}
	cfg := audit.GuardConfig{Every: a.set.AuditEvery, Acting: acting, Config: audit.Config{
		Rate: a.set.AuditRate, Terms: audit.Terms{Remember: a.set.Tombstone, Life: a.longestLife()},
	}}
	g, err := audit.NewGuard(cfg, store, a.bus, a.reg, a.log.With().Str("room", "audit").Logger())
	if err != nil {
		return err
	}
	a.newStage(ctx, "audit").run("audit", g.Run)
	return nil
}

// longestLife is how long an order may live without being announced anew.
func (a *App) longestLife() (most time.Duration) {
	for i := range a.set.Pools {
		most = max(most, a.set.Pools[i].TTLMax)
	}
	return most
}
