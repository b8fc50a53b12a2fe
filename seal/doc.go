// Package seal keeps real numbers private at rest: a keyed hash stands for the
// caller, an authenticated cipher hides the number to dial. Cryptography is the
// standard library's alone.
//
//	keyset file ──Open, Run──▶ Keyset ──Primary, Accepted, ByID──▶ Key
//	Key.Token(number)                             the caller as Redis knows it
//	Key.Seal(number, order, caller, party)        the number to dial, bound to all four
//	Key.SealBytes(payload, context)               a dead letter's payload
//
//	keys add        keys promote        keys drop
//	──────▶ next ──────────▶ primary ──────────▶ previous ──────▶ gone
package seal
