// Package vonage speaks with the Vonage Voice API: the webhooks of an application, signed
// with the account's signature secret, and the NCCO that answers a call.
//
//	POST …/voice, Authorization: Bearer JWT ──Decode──▶ vn.Call     (vn.ErrForbidden unless signed)
//	vn.Decision ──AppendAnswer──▶ [{"action":"connect","from":"VN","endpoint":[{"type":"phone","number":"real"}],…}]
//	                            | [{"action":"talk","text":"…"}] | 503: Vonage uses its fallback URL
//	POST …/status ──DecodeProgress──▶ vn.Progress
//
// The signature covers the body and a time, not the address: within 5 minutes whoever can
// read a request on its way could send it again, or with another order in its address. The
// webhook's address must therefore be https where it leaves the operator's machines.
//
// A call has a leg for each side, and each leg a uuid of its own; both belong to one
// conversation (https://developer.vonage.com/conversation/concepts/call). The id of a
// call is therefore the conversation's.
//
// Messages are not supported: Vonage takes no message as the answer to a message.
package vonage
