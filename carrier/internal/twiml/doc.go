// Package twiml holds what Twilio and Telnyx share: Telnyx made its TeXML so that what
// is written for Twilio runs there too, and its callbacks have the same fields.
//
//	form ──Reader.Call──▶ vn.Call          vn.Decision ──Writer.AppendAnswer──▶ <Dial>, a refusal, or 503
//	form, URI ──Reader.Progress──▶ vn.Progress      AppendMessage ──▶ <Message from="VN" to="real">
//
// Who sent a request is not its business: the codecs check that first.
package twiml
