// Package load is the load generator: one thread, one epoll, any number of
// connections, in a process of its own so that its CPU time can be told apart.
//
//	Calls: every request signed beforehand ─▶ generator ─▶ router or peer
//	                                             │ every answer is held against the table
//	                                             ▼
//	                                           Result: counts and latencies
//
// Closed loop: each connection sends its next request when it has its answer. Open
// loop: requests are due at random times (Poisson) of a fixed rate, whatever
// the server does, and latency counts from the moment a request was due.
package load
