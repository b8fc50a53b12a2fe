// Package api is the HTTP client under the carriers' number clients: what must be the
// same for every carrier because money hangs on it.
//
//	Search, Buy, … ─▶ Send: slot ─ breaker ─ rate ─ deadline ─▶ carrier ─▶ JSON | typed error
//	                   ▲                                          │
//	                   └── reads only: wait, ask again ◀── 429, 5xx, no answer
//
// A purchase is sent once, whatever happens. What its failure means is told apart:
// carrier.ErrNotSent (nothing left us), *carrier.APIError (the carrier said no), and
// carrier.ErrUnknownOutcome (anything else). Nothing that the carrier wrote, and no
// URL, gets into an error: either may hold a number.
package api
