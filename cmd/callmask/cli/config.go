package cli

import (
	"fmt"

	"github.com/callmask/callmask/cmd/callmask/settings"
)

type configCmd struct {
	Check string `placeholder:"FILE" help:"Check a settings file, print nothing but its first mistake."`
	Role  string `default:"" enum:",all,router,allocator,replenisher" placeholder:"ROLE" help:"Also tell whether this role could start (all, router, allocator, replenisher)."`
	Demo  bool   `help:"The built-in demo settings."`
	settings.Flags
}

// Help implements kong.HelpProvider.
func (configCmd) Help() string {
	return `Examples:
  callmask config                            what is in force, and where each value came from
  callmask config --check callmask.yaml      exit code 0 when the file is right, 2 when not
  callmask config --role router              also: has a router all that it needs?
  callmask config --demo > callmask.yaml     a start for a file of your own`
}

// Run runs the command.
func (c *configCmd) Run(p *Process) error {
	if c.Demo && c.Check == "" && c.Config == "" {
		_, err := p.Stdout.Write(settings.Demo())
		return err
	}
	if c.Check != "" {
		p.flags["config"] = c.Check
	}
	s, err := p.load(false)
	if err != nil {
		return err
	}
	if c.Role != "" {
		if err := s.Check(settings.Role(c.Role)); err != nil {
			return err
		}
	}
	if c.Check != "" {
		_, err := fmt.Fprintf(p.Stdout, "%s is right: %d pools, %d carriers\n", c.Check, len(s.Pools), len(s.Carriers))
		return err
	}
	return s.Print(p.Stdout)
}
