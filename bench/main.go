// Command bench measures callmask against what one would build instead. It starts
// everything it needs (Redis, routers, peers, a load generator) by itself, checks every
// answer, and writes figures, tables and plots. `bench --help` says how.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() { os.Exit(run(os.Args[1:])) }

// run runs the command that args name and returns the process's exit code: 0 whether
// or not a goal is reached, 1 when something could not run or an answer was wrong.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	k, err := kong.New(&c, kong.Name("bench"), kong.UsageOnError(),
		kong.Description("Measure callmask against what one would build instead, on this machine, in the same rounds."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := k.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v (see bench --help)\n", err)
		return 1
	}
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}
