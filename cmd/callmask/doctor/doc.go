// Package doctor looks at everything that a callmask needs, and says of each what was seen
// and what to do about it. It changes nothing.
//
//	settings ─▶ checks, all at once, each with a deadline ─▶ findings in a fixed order
package doctor
