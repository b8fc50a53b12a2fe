// Package conformance holds every carrier against the same calls, messages and
// callbacks: the real router, the real Redis, and a phone that signs and reads as the
// carrier does. It has tests only.
package conformance
