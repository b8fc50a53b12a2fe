// Package jsonform reads the few fields that a codec needs from a carrier's JSON
// object. Carriers add fields without notice, so what is not asked for is passed over.
package jsonform
