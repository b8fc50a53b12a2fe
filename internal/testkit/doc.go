// Package testkit starts the real servers that tests run against: redis-server
// (single and Cluster) and JetStream (inside the test process and as a cluster of
// processes), each on free ports with its files in the test's temporary folder, ended
// when the test ends. The nodes of clusters are package cluster's.
//
//	Redis(t)         one redis-server, its own process
//	RedisCluster(t)  three masters that share the slots: a client
//	RedisNodes(t, …) a Redis Cluster with its nodes at hand: kill, freeze, move slots
//	NATS(t)          JetStream inside the test process
//	NATSNodes(t, n)  a cluster of JetStream servers with its nodes at hand
//
// Operations and Codes read an OpenAPI document, for tests that hold a service against it.
//
// A missing redis-server fails the test; nothing is ever skipped.
package testkit
