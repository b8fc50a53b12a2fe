// Package exotelsim is a simulated Exotel that sells numbers, for tests and the demo:
//
//	exotel.Numbers ──HTTP──▶ Server: AvailablePhoneNumbers, IncomingPhoneNumbers
//
// It keeps what was bought, releases numbers some time after it was asked to, counts
// pages as Exotel does, and has package sim's faults. Its numbers are fictional.
package exotelsim
