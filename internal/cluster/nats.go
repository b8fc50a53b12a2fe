package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSConfig says what NATS cluster to start.
type NATSConfig struct {
	Nodes int    // 1, 3 or 5: JetStream goes on while more than half are alive
	Dir   string // each node has a folder in it
}

// NATS is a cluster of JetStream servers that write to disk before they acknowledge
// (sync_interval: always).
type NATS struct {
	nodes []*NATSNode
	web   *http.Client
}

// NATSNode is one server of a NATS cluster.
type NATSNode struct {
	*Process
	URL string // nats://host:port

	monitor string // http://host:port
	web     *http.Client
}

// StartNATS starts a NATS cluster and returns when JetStream has a leader and all nodes
// are current. ctx bounds the start; Stop ends it. The program that calls it begins
// with RunNode.
func StartNATS(ctx context.Context, cfg NATSConfig) (*NATS, error) {
	if cfg.Nodes < 1 {
		return nil, fmt.Errorf("nats cluster: %d nodes are none", cfg.Nodes)
	}
	var c *NATS
	err := withPorts(ctx, 3*cfg.Nodes, func(ports []int) error {
		var err error
		if c, err = newNATS(cfg, ports); err != nil {
			return err
		}
		if err = c.start(ctx); err != nil {
			c.Kill()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// newNATS makes the nodes; of the ports each takes one for clients, one for the other
// nodes and one for questions about itself.
func newNATS(cfg NATSConfig, ports []int) (*NATS, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("nats cluster: %w", err)
	}
	clients, routes, monitors := ports[:cfg.Nodes], ports[cfg.Nodes:2*cfg.Nodes], ports[2*cfg.Nodes:]
	// Without keep-alive, so that nothing of it is left when the cluster has ended.
	c := &NATS{web: &http.Client{Timeout: askTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
	for i := range cfg.Nodes {
		name := "nats-" + strconv.Itoa(i)
		spec, err := json.Marshal(nodeSpec{
			Name: name, Dir: filepath.Join(cfg.Dir, name), Port: clients[i], Route: routes[i], Routes: routes, Monitor: monitors[i],
		})
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, &NATSNode{
			// The argument ends a test program that does not begin with RunNode.
			Process: &Process{
				name: name, path: self, args: []string{"-test.run=^$"},
				env: append(os.Environ(), nodeVariable+"="+string(spec)),
			},
			URL: "nats://" + addr(clients[i]), monitor: "http://" + addr(monitors[i]), web: c.web,
		})
	}
	return c, nil
}

func (c *NATS) start(ctx context.Context) error {
	if err := each(c.nodes, func(n *NATSNode) error { return n.Restart(ctx) }); err != nil {
		return err
	}
	return c.WaitHealthy(ctx)
}

// Restart starts the node, which has ended, on the same ports and files, and returns
// when it runs. It may not be current yet, nor may there be a leader: see WaitHealthy.
func (n *NATSNode) Restart(ctx context.Context) error {
	if err := n.Start(); err != nil {
		return err
	}
	return n.WaitReady(ctx, func(ctx context.Context) error {
		var v struct {
			Name string `json:"server_name"`
		}
		if err := n.ask(ctx, "/varz", &v); err != nil {
			return err
		}
		if v.Name != n.name {
			return final{fmt.Errorf("another server answers at %s: address already in use", n.monitor)}
		}
		return nil
	})
}

// ask reads one of the server's monitoring pages (docs.nats.io, "Monitoring").
func (n *NATSNode) ask(ctx context.Context, page string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.monitor+page, nil)
	if err != nil {
		return err
	}
	resp, err := n.web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it is only read
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s%s: %w", n.name, page, err)
	}
	return nil
}

// WaitHealthy returns once JetStream has a leader on which all nodes that are alive
// agree, and each of them says that its streams and consumers are current. When ctx
// ends first the error says what was missing.
func (c *NATS) WaitHealthy(ctx context.Context) error {
	if err := poll(ctx, c.Healthy); err != nil {
		return fmt.Errorf("the NATS cluster is not healthy: %w", err)
	}
	return nil
}

// Healthy says what WaitHealthy would wait for; nil: nothing.
func (c *NATS) Healthy(ctx context.Context) error {
	leader := ""
	for _, n := range c.alive() {
		var health server.HealthStatus
		if err := n.ask(ctx, "/healthz", &health); err != nil {
			return err
		}
		if health.Status != "ok" {
			return fmt.Errorf("%s: %s", n.name, health.Error)
		}
		js, err := n.jetStream(ctx)
		if err != nil {
			return err
		}
		if len(c.nodes) == 1 {
			return nil
		}
		if js.Meta == nil || js.Meta.Leader == "" || leader != "" && js.Meta.Leader != leader {
			return fmt.Errorf("%s: JetStream has no leader that all agree on", n.name)
		}
		leader = js.Meta.Leader
	}
	return nil
}

func (n *NATSNode) jetStream(ctx context.Context) (*server.JSInfo, error) {
	js := &server.JSInfo{}
	return js, n.ask(ctx, "/jsz?accounts=true&streams=true", js)
}

// StreamLeader returns the node that leads a stream, as soon as one that is alive says
// so of itself.
func (c *NATS) StreamLeader(ctx context.Context, stream string) (*NATSNode, error) {
	var leader *NATSNode
	err := poll(ctx, func(ctx context.Context) error {
		for _, n := range c.alive() {
			js, err := n.jetStream(ctx)
			if err != nil {
				return err
			}
			if leads(js, stream, n.name) {
				leader = n
				return nil
			}
		}
		return fmt.Errorf("stream %s has no leader", stream)
	})
	return leader, err
}

func leads(js *server.JSInfo, stream, node string) bool {
	for _, account := range js.AccountDetails {
		for _, s := range account.Streams {
			if s.Name == stream && (s.Cluster == nil || s.Cluster.Leader == node) {
				return true
			}
		}
	}
	return false
}

// Nodes returns all nodes, alive or not.
func (c *NATS) Nodes() []*NATSNode { return c.nodes }

func (c *NATS) alive() []*NATSNode {
	var nodes []*NATSNode
	for _, n := range c.nodes {
		if n.Alive() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// URL returns the cluster as callmask's setting nats_url takes it: every node's URL,
// separated by commas.
func (c *NATS) URL() string {
	urls := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		urls[i] = n.URL
	}
	return strings.Join(urls, ",")
}

// Kill ends all nodes with SIGKILL.
func (c *NATS) Kill() {
	for _, n := range c.nodes {
		n.Kill()
	}
}

// Stop ends all nodes in order and waits for them; what has not ended with ctx is
// killed. The files stay.
func (c *NATS) Stop(ctx context.Context) error {
	return each(c.nodes, func(n *NATSNode) error { return n.Stop(ctx) })
}
