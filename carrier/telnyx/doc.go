// Package telnyx speaks with a TeXML application of Telnyx: the signature and fields of
// its webhooks, and the TeXML that answers them.
//
//	POST …/voice, telnyx-signature-ed25519 ──Decode──▶ vn.Call      (vn.ErrForbidden unless signed)
//	vn.Decision ──AppendAnswer──▶ <Response><Dial callerId="VN"><Number>real</Number></Dial></Response>
//	                            | <Response><Reject/></Response> | 503: Telnyx uses its failover URL
//	POST …/status ──DecodeProgress──▶ vn.Progress                   (what became of a call)
//
// The signature covers the time and the body, and nothing else: not the path, not the
// query, not the method. So every field is read from the body of a POST, and a GET is
// refused: whoever has seen one could ask for any call he likes. Within five minutes
// whoever can read a request on its way could send it again; the webhook's address must
// therefore be https where it leaves the operator's machines.
//
// <Dial> without fromDisplayName shows callerId as the name too, so it is left out.
// https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs/dial
//
// Telnyx takes no message as the answer to a message, so masked messages are not
// supported.
package telnyx
