// Package e2e holds the tests of callmask as a whole. They touch nothing but what the
// outside has: the built binary, HTTP, a plain NATS client, signals and files; or,
// where they must be many in one process, the packages' exported names.
//
//	go build ──▶ callmask ──▶ child process with its own data directory
//	tests ── HTTP, NATS, SIGTERM, SIGKILL, files on disk ──▶ it
//
// CALLMASK_E2E_SCALE (0.01 to 1) scales the counts of the heavy tests: 1 is the
// default, a quarter with the race detector. CALLMASK_E2E_SEED repeats a run with the
// seed that it printed; CALLMASK_E2E_BINARY names a binary to test instead of one
// built from the sources. CALLMASK_E2E_LIVE=1 makes the test of live changes of a Redis
// Cluster its long form, with its goals in time (`make cluster-live`).
package e2e
