// Package installation starts a whole callmask that is spread out, on one machine: a
// Redis Cluster, a NATS cluster, a simulated carrier and several processes of each
// role. `make cluster` and the tests of many processes are made of it.
//
//	Start ─▶ package cluster: Redis, NATS
//	      ─▶ settings file, keyset and API token in Config.Dir
//	      ─▶ Role: callmask router, allocator, replenisher, each a child process
//
// Its parts may be killed, frozen and started again one by one; see package cluster.
package installation
