package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/callmask/callmask/cmd/callmask/settings"
)

// The exit codes of every command.
const (
	ExitDone   = 0
	ExitNo     = 1 // callmask said no
	ExitFailed = 2 // it could not be done
)

// Process is what a command has of the world outside.
type Process struct {
	Args   []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Env    func(string) (string, bool)

	flags map[string]string // given on the command line, by name
}

// commands is the command line as kong reads it.
type commands struct {
	All         allCmd         `cmd:"" group:"Run:" help:"Run every role in one process, with its own Redis and NATS where none is named."`
	Router      routerCmd      `cmd:"" group:"Run:" help:"Answer carriers: connect or refuse each call."`
	Allocator   allocatorCmd   `cmd:"" group:"Run:" help:"Give orders their numbers; serve the private API."`
	Replenisher replenisherCmd `cmd:"" group:"Run:" help:"Buy numbers for low pools; end what has run out."`
	Demo        demoCmd        `cmd:"" group:"Run:" help:"Play the story of a masked call in the terminal."`
	Order       orderCmd       `cmd:"" group:"Act on a running system:" help:"Give an order its numbers, look at it, extend it, end it."`
	Pool        poolCmd        `cmd:"" group:"Act on a running system:" help:"List pools, bring numbers in, take numbers out."`
	Dead        deadCmd        `cmd:"" group:"Act on a running system:" help:"List events that could not be handled; publish them again."`
	Erase       eraseCmd       `cmd:"" group:"Act on a running system:" help:"Erase what is kept of an order's parties."`
	Rebuild     rebuildCmd     `cmd:"" group:"Act on a running system:" help:"Restore Redis from the ledger: what it has lost, or all of it."`
	Keys        keysCmd        `cmd:"" group:"Act on a running system:" help:"Rotate the keys that keep real numbers private."`
	Explain     explainCmd     `cmd:"" group:"Look:" help:"Say why a call would be connected or refused."`
	Whois       whoisCmd       `cmd:"" group:"Look:" help:"Say which order held a virtual number at a moment."`
	Calls       callsCmd       `cmd:"" group:"Look:" help:"Show what became of calls."`
	Check       checkCmd       `cmd:"" group:"Look:" help:"Check every number, order and counter in Redis."`
	Doctor      doctorCmd      `cmd:"" group:"Look:" help:"Look at settings, servers, carriers and clocks, and say what to do."`
	Config      configCmd      `cmd:"" group:"Look:" help:"Print the settings in force, secrets hidden."`
	Plan        planCmd        `cmd:"" group:"Look:" help:"Say what servers and numbers a load needs."`
	Completion  completionCmd  `cmd:"" group:"Look:" help:"Print what lets a shell complete commands by Tab."`
	Version     versionCmd     `cmd:"" group:"Look:" help:"Print the version."`
}

// noError is an answer of callmask that is not the one hoped for: exit code 1.
type noError struct{ err error }

func (e *noError) Error() string { return e.err.Error() }
func (e *noError) Unwrap() error { return e.err }

// exit carries kong's wish to end (after --help) out of its parser.
type exit int

// Main runs the command that p.Args name and returns the process's exit code.
func Main(p Process) (code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exit)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	k, err := parser(&commands{}, p)
	if err != nil {
		fmt.Fprintf(p.Stderr, "callmask: %v\n", err)
		return ExitFailed
	}
	p.complete(k)
	if len(p.Args) == 0 {
		p.Args = []string{"--help"}
	}
	ctx, err := k.Parse(p.Args)
	if err != nil {
		fmt.Fprintf(p.Stderr, "callmask: %s (see callmask --help)\n", oneLine(err))
		return ExitFailed
	}
	p.flags = map[string]string{}
	for _, el := range ctx.Path {
		if el.Flag != nil {
			p.flags[el.Flag.Name] = fmt.Sprint(el.Flag.Target.Interface())
		}
	}
	err = ctx.Run(&p)
	var no *noError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &no):
		if msg := oneLine(err); msg != "" {
			fmt.Fprintf(p.Stderr, "callmask: %s\n", msg)
		}
		return ExitNo
	}
	fmt.Fprintf(p.Stderr, "callmask: %s\n", oneLine(err))
	return ExitFailed
}

// parser reads the command line into c.
func parser(c *commands, p Process) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("callmask"),
		kong.Description("Masked calling: two parties of an order phone each other, and neither learns the other's number.\n\n"+
			"Exit codes: 0 done, 1 callmask said no, 2 it could not be done."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(code int) { panic(exit(code)) }),
	)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// load reads the settings that the command's flags, the environment and the file
// give.
func (p *Process) load(demo bool) (*settings.Settings, error) {
	return settings.Load(settings.Input{Flags: p.flags, Env: p.Env, Demo: demo})
}

// where reads only what tells where a running system is.
func (p *Process) where() (*settings.Settings, error) {
	return settings.Load(settings.Input{Flags: p.flags, Env: p.Env, Lenient: true})
}

type versionCmd struct{ output }

// Help implements kong.HelpProvider.
func (versionCmd) Help() string {
	return "Example:\n  callmask version -o json"
}

// Run runs the command.
func (c *versionCmd) Run(p *Process) error {
	v := Version()
	return c.print(p.Stdout, v, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "callmask %s (%s, %s)\n", v.Version, v.Revision, v.Go)
		return err
	})
}

// BuildVersion says which build this is.
type BuildVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

// Version reads what the Go tool noted in the binary.
func Version() BuildVersion {
	v := BuildVersion{Version: "devel", Revision: "unknown revision"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	var dirty bool
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		v.Revision += " with changes"
	}
	return v
}
