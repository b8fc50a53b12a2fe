// Package console is the web page for the people who run callmask: what it does at this
// moment, why one call was refused, and the few things that are done by hand.
//
//	Redis, NATS ─▶ one sampler ─▶ snapshot ─▶ pages (html/template)
//	                                    └───▶ hub ─▶ watchers (server-sent events)
//
// One sampler reads for everybody: once a second while somebody watches, else every 15 s,
// and never so often that counting took more than a fiftieth of Redis's time. Of calls it reads a bounded number of the
// newest events, however many there are. Each view is rendered once for all who watch it,
// and who is too slow to take an update is dropped, never waited for.
//
// People sign in with the API token (operators) or the read token (readers). What an
// operator does is in the audit before it is done; without the audit it is not done.
package console
