// Package exotel speaks with Exotel's Connect applet, whose settings come from a URL.
//
//	GET …/voice/SECRET ──Decode──▶ vn.Call           (vn.ErrForbidden without the secret)
//	vn.Decision ──AppendAnswer──▶ {"destination":{"numbers":["+real"]},"outgoing_phone_number":"+VN",…}
//	                            | {"destination":{"numbers":[]}}: the flow goes on to "We didn't dial anyone"
//	GET or POST …/status/SECRET ──DecodeProgress──▶ vn.Progress
//
// Exotel signs nothing, and nothing in a request is a time: the secret in the path is all
// that tells its requests from forged ones. The address must therefore be https, its
// access log must not be kept where others read it, and a list of Exotel's own addresses,
// which its support gives out, belongs in front of it.
//
// Messages are not supported: numbers in India receive none.
package exotel
