// Package router is the hot path: the public HTTP listener that carriers ring, and
// the decision what to do with each call.
//
//	carrier ──▶ listener ──▶ handle ──▶ Codec.Decode ──▶ resolve ──▶ Codec.AppendAnswer
//	            caps, limits  path,      signature,       │ limiter: too many refusals?
//	            time-outs     method     secret, fields   │ withheld?
//	                                                      └ Lookup: one Redis read
//
// A call costs one Lookup and no allocation of this package's own. Whatever fails,
// the answer is a refusal. After the answer is built the Recorder is told, which
// copies and never blocks; the router knows nothing of NATS, so who wants
// `calls.decided` events passes a Recorder that publishes them.
package router
