// Package explain tells why a call would be connected or refused: every step of the
// decision as a dry run, which reads and changes nothing.
//
//	called, calling ─▶ numbering ─▶ Store.Explain ─▶ steps, the last one the decision
//
// The decision itself is Store.Lookup's, the one that calls get. Left out is what lives in a
// router's memory: the limit on refused calls.
//
// Numbers of people are masked unless they are asked for, and each time they are shown an
// entry in the audit comes first.
package explain
