package main

import (
	"os"

	"github.com/callmask/callmask/cmd/callmask/cli"
)

func main() {
	os.Exit(cli.Main(cli.Process{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.LookupEnv}))
}
