// Package cli is callmask's command line: it reads the arguments, runs one command
// and gives its exit code.
//
//	Process ─▶ kong ─▶ command.Run(*Process) ─▶ exit code
//
//	0  done
//	1  callmask said no: an unknown order, a conflict, a mismatch found by `check`
//	2  it could not be done: wrong usage, wrong settings, nothing answers
package cli
