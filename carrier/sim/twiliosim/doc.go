// Package twiliosim is a simulated Twilio that sells numbers, for tests and the demo:
//
//	twilio.Numbers ──HTTP──▶ Server: AvailablePhoneNumbers, IncomingPhoneNumbers, the pricing API
//
// It keeps what was bought, and has Twilio's documented errors, magic numbers and
// paging, and package sim's faults. Its numbers are fictional.
package twiliosim
