// Package plivo speaks with Plivo: the webhooks for calls, text messages and call
// progress with their signature, and the XML that answers them.
//
//	POST|GET …/voice   ──Decode─────────▶ vn.Call      (vn.ErrForbidden unless signed)
//	POST|GET …/sms     ──DecodeMessage──▶ vn.Message
//	POST|GET …/status  ──DecodeProgress─▶ vn.Progress
//	vn.Decision ──AppendAnswer──▶ <Response><Dial callerId="VN" callerName="VN"><Number>real</Number></Dial></Response>
//	                            | <Response><Hangup reason="rejected"/></Response> | 503: Plivo uses its fallback URL
//	vn.Verdict ──AppendMessage──▶ <Response><Message src="VN" dst="real" type="sms">text</Message></Response> | <Response/>
//
// Plivo signs no time: whoever can read a request on its way could send it again. The
// webhook's address must therefore be https where it leaves the operator's machines.
package plivo
