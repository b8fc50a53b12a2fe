// Command clidoc writes the page of all commands: what their help says, so the page
// cannot name a flag that does not exist, or leave a command out.
//
//	cli's model ──▶ commands, flags, examples, exit codes ──▶ docs/cli.md
package main

//go:generate go run . ../../../docs/cli.md

import (
	"errors"
	"fmt"
	"os"

	"github.com/callmask/callmask/cmd/callmask/cli"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "clidoc: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("name the one file to write")
	}
	page, err := cli.Reference()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], []byte(page), 0o644) //nolint:gosec // G306: a page for everybody
}
