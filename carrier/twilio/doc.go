// Package twilio speaks with Twilio: the signature and fields of its webhooks, and the
// TwiML that answers them.
//
//	POST …/voice, X-Twilio-Signature ──Decode──▶ vn.Call      (vn.ErrForbidden unless signed)
//	vn.Decision ──AppendAnswer──▶ <Response><Dial callerId="VN"><Number>real</Number></Dial></Response>
//	                            | <Response><Reject/></Response> | 503: Twilio uses its fallback URL
//	POST …/sms ──DecodeMessage──▶ vn.Message ──AppendMessage──▶ <Message from="VN" to="real">…</Message>
//	POST …/status ──DecodeProgress──▶ vn.Progress             (what became of a call)
//
// Every URL must be set to POST: a GET is refused, see check.verify.
//
// Twilio signs no time: whoever can read a request on its way could send it again. The
// webhook's address must therefore be https where it leaves the operator's machines.
package twilio
