// Package twilio speaks with Twilio: the voice webhook's signature and fields, and
// the TwiML that answers it.
//
//	POST …/voice, X-Twilio-Signature ──Decode──▶ vn.Call      (vn.ErrForbidden unless signed)
//	vn.Decision ──AppendAnswer──▶ <Response><Dial callerId="VN"><Number>real</Number></Dial></Response>
//	                            | <Response><Reject/></Response> | 503: Twilio uses its fallback URL
//
// Twilio signs no time: whoever can read a request on its way could send it again. The
// webhook's address must therefore be https where it leaves the operator's machines.
package twilio
