// Command callmask is the whole of callmask in one binary.
//
//	main ─▶ cli ─▶ settings            what this process is told
//	         ├──▶ app                  all, router, allocator, replenisher
//	         ├──▶ admin                order, pool: the private API of a running system
//	         ├──▶ check                every VN in exactly one state
//	         └──▶ demo                 the whole story in the terminal
package main
