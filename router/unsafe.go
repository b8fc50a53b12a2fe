package router

import "unsafe"

// view returns b as a string without copying it. The string is valid only until b is
// changed or reused: whoever makes one keeps b untouched while anybody reads it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) } //nolint:gosec // the lifetime is stated above
