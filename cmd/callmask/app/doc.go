// Package app wires callmask's services into one running process.
//
//	servers   redis-server child, JetStream, simulated carrier     (all, where no URL is given)
//	   ▼
//	base      keyset reload, Redis clients, NATS bus, number index
//	   ▼
//	workers   allocator │ replenisher │ reaper
//	   ▼
//	front     router                         admin listener beside them all
//
// A process starts from top to bottom and ends from bottom to top, each step with
// the time that is left of the shutdown's.
package app
