// Package softswitch speaks the plain JSON contract that an operator's own switch
// (Kamailio, FreeSWITCH, Asterisk) and other programs ask:
//
//	GET /v1/resolve?called=%2B…&calling=%2B…&call_id=…   Authorization: Bearer <token>
//	  ──Decode──▶ vn.Call      (vn.ErrForbidden unless the token is one of ours)
//	vn.Decision ──AppendAnswer──▶ {"action":"connect",…} | {"action":"reject",…}
//
// One codec serves one softswitch carrier; another one serves the API token.
package softswitch
