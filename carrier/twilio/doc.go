// Package twilio speaks with Twilio: the voice webhook's signature and fields, and
// the TwiML that answers it.
//
//	POST …/voice, X-Twilio-Signature ──Decode──▶ vn.Call      (vn.ErrForbidden unless signed)
//	vn.Decision ──AppendAnswer──▶ <Response><Dial callerId="VN"><Number>real</Number></Dial></Response>
//	                            | <Response><Reject/></Response> | 503: Twilio uses its fallback URL
//
// Twilio signs no time, so a recorded request can be played again by who can read the
// connection; it changes nothing, because deciding a call is a pure read.
package twilio
