// Package testkit starts the real servers that tests run against: redis-server
// (single and Cluster) and an embedded JetStream server, each on free ports with
// its files in the test's temporary folder, ended when the test ends.
//
//	Redis(t)        one redis-server, its own process
//	RedisCluster(t) three masters that share the slots
//	NATS(t)         JetStream inside the test process
//
// Operations and Codes read an OpenAPI document, for tests that hold a service against it.
//
// A missing redis-server fails the test; nothing is ever skipped.
package testkit
