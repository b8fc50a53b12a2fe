// Package jambonz speaks with jambonz, an open-source voice platform that operators
// run themselves: the webhooks of an application, and the verbs that answer them.
//
//	POST …/voice, Jambonz-Signature ──Decode──▶ vn.Call           (vn.ErrForbidden unless signed)
//	vn.Decision ──AppendAnswer──▶ [{"verb":"dial","callerId":"VN",…}] | [{"verb":"sip:decline",…}] |
//	                             [{"verb":"say",…},{"verb":"hangup"}] | 503
//	POST …/status ──DecodeProgress──▶ vn.Progress                 (the dial verb's actionHook, and call_status_hook)
//
// Facts by https://docs.jambonz.org/reference and the source of jambonz-feature-server
// 0.9.8, drachtio-srf and sbc-outbound.
//
//   - The signature covers the body and its time, and nothing else: not the path, nor the
//     query that brings an order's id back. The webhook's address must be https where it
//     leaves the operator's machines.
//   - Numbers are what the SIP trunk delivered. With or without a plus sign, they must
//     begin with the country code: let the trunk deliver E.164.
//   - jambonz has no fallback application. An HTTP error ends the call with SIP 480,
//     upon which the trunk may try its next destination; "#rc=2&rp=ct,rt,5xx" at the end of the
//     application's call hook makes jambonz ask twice more before.
package jambonz
