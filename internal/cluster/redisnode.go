package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// RedisNode is one redis-server process, of a Cluster or alone.
type RedisNode struct {
	*Process
	Addr string // host:port
	Dir  string // where its files are

	id     string // in its Cluster
	bus    string // port of the cluster bus
	client *redis.Client
}

// askTimeout bounds a question to a node that should answer at once.
const askTimeout = 2 * time.Second

// redisArgs are what callmask's promises rest on: an AOF, no eviction (a lost key is a
// lost binding), no slow log (it would keep arguments of commands), bindings in one
// listpack up to an order id of 64 characters.
func redisArgs(dir string, port int) []string {
	return []string{
		"--bind", loopback, "--port", strconv.Itoa(port), "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
		"--slowlog-log-slower-than", "-1", "--latency-tracking", "no", "--hash-max-listpack-value", "128",
		"--crash-log-enabled", "no", "--shutdown-timeout", "0", "--repl-diskless-sync-delay", "0",
		// A replica is not offered to clients before its master has sent it something.
		"--repl-ping-replica-period", "1",
	}
}

// StartRedisNode starts one redis-server with its files in dir and the given further
// arguments (as on its command line, "--name", "value"), and returns when it answers.
func StartRedisNode(ctx context.Context, dir string, args ...string) (*RedisNode, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed: run `make deps`")
	}
	var n *RedisNode
	err = withPorts(ctx, 2, func(ports []int) error {
		all := append(redisArgs(dir, ports[0]), args...)
		if strings.Contains(strings.Join(args, " "), "--cluster-enabled yes") {
			all = append(all, "--cluster-port", strconv.Itoa(ports[1]))
		}
		at := addr(ports[0])
		n = &RedisNode{
			Process: &Process{name: "redis-server " + at, path: path, args: all},
			Addr:    at, Dir: dir, bus: strconv.Itoa(ports[1]), client: newClient(at),
		}
		if err := n.Restart(ctx); err != nil {
			n.Kill()
			_ = n.client.Close() // it holds no data
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

func newClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true,
		DialTimeout: askTimeout, ReadTimeout: -1, WriteTimeout: -1, // the context bounds each call
		// A hosted Redis's, and they leave goroutines behind.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Client returns the node's own client, which never retries and waits as long as the
// context of a call allows. It lives as long as the node.
func (n *RedisNode) Client() *redis.Client { return n.client }

// Restart starts the node, which has ended, on the same port and files, and returns
// when it answers with its data loaded.
func (n *RedisNode) Restart(ctx context.Context) error {
	if err := n.Start(); err != nil {
		return err
	}
	return n.WaitReady(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		// Not yet by the client: it logs every refused connection.
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.Addr)
		if err != nil {
			return err
		}
		_ = conn.Close() // that it opens is all there is to know
		info, err := n.client.Info(ctx, "server", "persistence").Result()
		if err != nil {
			return err
		}
		if info := lines(info); info["process_id"] != strconv.Itoa(n.Pid()) {
			return final{fmt.Errorf("another Redis answers at %s: address already in use", n.Addr)}
		} else if info["loading"] != "0" {
			return errors.New("it loads its data")
		}
		return nil
	})
}

// askAgain is how often a redis-server is asked to end: one that writes the first AOF of
// a new replica refuses, and forgets that it was asked.
const askAgain = 200 * time.Millisecond

// Stop ends the node in order and waits; see Process.Stop. Restart starts it again.
func (n *RedisNode) Stop(ctx context.Context) error {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	return n.stop(ctx, again.C)
}

// close ends the node for good.
func (n *RedisNode) close(ctx context.Context) error {
	return errors.Join(n.Stop(ctx), n.client.Close())
}

// do sends a command to the node.
func (n *RedisNode) do(ctx context.Context, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v, err := n.client.Do(ctx, args...).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %v %v: %w", n.name, args[0], args[1], err)
	}
	return v, nil
}

// CutReplication makes the node, a master, refuse its replicas: what it acknowledges
// from now on is lost when it dies. RestoreReplication ends it.
//
// To kill a master is a weak test by itself: the kernel still delivers what it has put
// into the sockets of its replicas.
func (n *RedisNode) CutReplication(ctx context.Context) error {
	if _, err := n.do(ctx, "acl", "setuser", "default", "-psync", "-sync"); err != nil {
		return err
	}
	_, err := n.do(ctx, "client", "kill", "type", "replica")
	return err
}

// RestoreReplication lets the replicas of the node come back.
func (n *RedisNode) RestoreReplication(ctx context.Context) error {
	_, err := n.do(ctx, "acl", "setuser", "default", "+psync", "+sync")
	return err
}

// lines reads the name:value lines of an INFO answer.
func lines(info string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			values[name] = value
		}
	}
	return values
}
