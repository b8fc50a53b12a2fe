package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
)

// NewRedis returns a client of the Redis at a setting. timeout bounds each read and
// write: short for calls, which wait for nobody, longer for everything else. pool is
// the number of connections for each node.
//
// go-redis's own time-outs do not suit a call that waits: reads of 5 s, context
// deadlines ignored, and a Cluster's state that is read anew only every 60 s.
func NewRedis(at settings.RedisAt, timeout time.Duration, pool int) (redis.UniversalClient, error) {
	r, err := parseRedis(at, timeout, pool)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Cluster:
		return redis.NewClusterClient(clusterOptions(r.Options)), nil
	case r.Sentinel:
		return redis.NewFailoverClient(r.Options.Failover()), nil
	default:
		return redis.NewClient(r.Options.Simple()), nil
	}
}

// newReplicas returns a client that reads from the replicas of the Redis at a setting,
// nil where only one server is known.
func newReplicas(at settings.RedisAt, timeout time.Duration, pool int) (redis.UniversalClient, error) {
	r, err := parseRedis(at, timeout, pool)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Cluster:
		o := clusterOptions(r.Options)
		o.ReadOnly = true
		return redis.NewClusterClient(o), nil
	case r.Sentinel:
		o := r.Options.Failover()
		o.ReplicaOnly = true
		return redis.NewFailoverClient(o), nil
	default:
		return nil, nil //nolint:nilnil // the contract
	}
}

func parseRedis(at settings.RedisAt, timeout time.Duration, pool int) (*settings.Redis, error) {
	r, err := settings.ParseRedis(at)
	if err != nil {
		return nil, err
	}
	o := r.Options
	o.DialTimeout = max(timeout, time.Second)
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.DialerRetries = 1
	o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = 2, time.Millisecond, 20*time.Millisecond
	o.PoolSize = pool
	// The answers are those of RESP2; RESP3 would look for pushed messages before each.
	o.Protocol = 2
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return r, nil
}

func clusterOptions(o *redis.UniversalOptions) *redis.ClusterOptions {
	c := o.Cluster()
	c.ClusterStateReloadInterval = time.Second
	// The client of the Cluster tries again itself, at the node that is right by then.
	c.MaxRetries = -1
	c.MaxRedirects = 4
	return c
}

// startPatience is how long a start waits for an external Redis or NATS that may
// itself be starting.
const startPatience = 30 * time.Second

// patiently tries until it succeeds, startPatience is over, or it fails for what no
// waiting mends.
func (a *App) patiently(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for first := true; ; first = false {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := try(one)
		cancel()
		if wrong := (*events.ConfigError)(nil); err == nil || errors.As(err, &wrong) {
			return err
		}
		if first {
			a.log.Warn().Err(err).Str("server", what).Msg("waiting for it to answer")
		}
		select {
		case <-ctx.Done():
			if e := context.Cause(ctx); e != context.DeadlineExceeded { //nolint:errorlint // asked to stop meanwhile
				return e
			}
			return fmt.Errorf("no answer for %s: %w", startPatience, err)
		case <-tick.C:
		}
	}
}
