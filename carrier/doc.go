// Package carrier holds what the carriers' number clients share. Each carrier has a
// folder of its own beside it:
//
//	carrier ─webhook─▶ router ─Decode─▶ carrier/<name>.Codec ─AppendAnswer─▶ carrier
//	replenisher ─Search Buy Configure List Release─▶ carrier/<name>.Numbers
//	                └──▶ carrier/internal/api: limits, deadlines, errors ──HTTP──▶ number API
//
// Number APIs to try them on, with every fault that one can have, are in carrier/sim.
package carrier
