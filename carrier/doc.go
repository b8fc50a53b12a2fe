// Package carrier holds what the carriers' number clients share. Each carrier has a
// folder of its own beside it:
//
//	carrier ─webhook─▶ router ─Decode─▶ carrier/<name>.Codec ─AppendAnswer─▶ carrier
//	replenisher ─Search Buy Configure List Release─▶ carrier/<name>.Numbers ─▶ number API
package carrier
