package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// nodeVariable is set in the environment of a child that is a node of a NATS cluster.
const nodeVariable = "CALLMASK_CLUSTER_NODE"

// nodeSpec tells such a child what it is.
type nodeSpec struct {
	Name    string
	Dir     string
	Port    int // for clients
	Route   int // for the other nodes
	Routes  []int
	Monitor int // for questions about itself
}

// RunNode makes this process a node of a NATS cluster when StartNATS started it as
// one, and returns true when that has ended. A main, or a test's TestMain, that comes
// to use StartNATS begins with
//
//	if cluster.RunNode() {
//		return
//	}
func RunNode() bool {
	text, ok := os.LookupEnv(nodeVariable)
	if !ok {
		return false
	}
	if err := runNode(text); err != nil {
		fmt.Fprintln(os.Stderr, err) // StartNATS shows it
	}
	return true
}

func runNode(text string) error {
	var spec nodeSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return fmt.Errorf("%s: %w", nodeVariable, err)
	}
	opts := &server.Options{
		ServerName: spec.Name, Host: loopback, Port: spec.Port,
		HTTPHost: loopback, HTTPPort: spec.Monitor,
		JetStream: true, StoreDir: spec.Dir, SyncAlways: true, DisableJetStreamBanner: true,
	}
	if len(spec.Routes) > 1 {
		opts.Cluster = server.ClusterOpts{Name: "callmask", Host: loopback, Port: spec.Route}
		var routes string
		for i, port := range spec.Routes {
			if i > 0 {
				routes += ","
			}
			routes += "nats://" + loopback + ":" + strconv.Itoa(port)
		}
		opts.Routes = server.RoutesFromStr(routes)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	srv.ConfigureLogger() // to standard error
	srv.Start()           // it ends on SIGTERM by itself
	srv.WaitForShutdown()
	return nil
}
