// Package sim is a simulated carrier that speaks HTTP in both directions, for the
// demo and for tests. Nothing of it can be reached unless it is started.
//
//	replenisher ─▶ Numbers ──HTTP──▶ Server: the numbers, what was bought, faults on demand
//	Phone.Call ──signed webhook──▶ router ─▶ Codec.Decode … Codec.AppendAnswer ─▶ Phone obeys
//	TwilioPhone.Call ──form, X-Twilio-Signature──▶ router ─▶ package twilio ─▶ TwiML, obeyed
//
// Host and Market are what the Server stands on, and those of the packages below that
// simulate the number APIs of real carriers.
//
// All its own numbers are fictional: +1 NPA 555 01xx, +44 7700 900xxx (Ofcom), and
// for Indonesia a range that no network has.
package sim
