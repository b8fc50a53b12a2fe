// Package embedded runs the servers that `callmask all` starts when it was given
// no URL of an external one.
//
//	StartRedis  ──▶  redis-server child process   AOF in the data directory
//	StartNATS   ──▶  JetStream in this process    encrypted, synced, key in the data directory
//
// Both listen on TCP, port 0 meaning any free port, and need no credentials on
// loopback.
package embedded
