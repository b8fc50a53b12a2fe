// Package privateapi is what the parts of the private API have in common, whichever
// process serves them: who is let in, how an error is told, and the
// document that describes them.
package privateapi
