// Package privateapi is what the parts of the private API have in common, whichever
// process serves them: who is let in, and how an error is told.
package privateapi
