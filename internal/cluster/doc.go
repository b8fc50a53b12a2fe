// Package cluster starts a Redis Cluster and a NATS JetStream cluster on the loopback,
// every node a child process on free ports that can be killed, frozen, ended in order
// and started again on its files. It is for trying callmask out and for tests; people's
// clusters are theirs to run.
//
//	StartRedis ─▶ Redis ─▶ RedisNode ─┐
//	StartNATS ──▶ NATS ──▶ NATSNode ──┴▶ Process: Start, Kill, Freeze, Thaw, Stop, Output
//
// A node of NATS is the calling program once more: its main, or a test's TestMain,
// begins with RunNode.
//
// All methods may be called by several goroutines, but changes of one cluster's make-up
// (AddNode, RemoveNode, MoveSlot, Reshard, Stop) by one at a time.
package cluster
