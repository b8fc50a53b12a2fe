package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help implements kong.HelpProvider.
func (completionCmd) Help() string {
	return `Prints what makes a shell complete commands, flags and their values when Tab is pressed.

Examples:
  source <(callmask completion bash)                     in ~/.bashrc
  source <(callmask completion zsh)                      in ~/.zshrc
  callmask completion fish | source                      in ~/.config/fish/config.fish`
}

// The scripts let the shell ask this binary, by the line that was typed so far in COMP_LINE.
// Where it knows nothing to complete the shells offer files.
const (
	bashScript = "complete -o default -C %[2]s callmask\n"
	zshScript  = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + bashScript
	fishScript = `function __callmask_complete
    set -l typed (commandline --cut-at-cursor --current-process)
    COMP_LINE="$typed" COMP_POINT=(string length -- "$typed") %[1]s
end
complete --command callmask --arguments '(__callmask_complete)'
`
)

// Run prints the script of a shell.
func (c *completionCmd) Run(p *Process) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("this program's own path: %w", err)
	}
	script := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell]
	inner := quoted(binary)
	script = strings.NewReplacer("%[1]s", inner, "%[2]s", quoted(inner)).Replace(script) // bash reads the command twice
	_, err = fmt.Fprint(p.Stdout, script)
	return err
}

// quoted writes a word as shells read it.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// complete answers a shell that asks how a line may go on. It does not return then.
func (p *Process) complete(k *kong.Kong) {
	if _, asked := p.Env("COMP_LINE"); asked {
		kongplete.Complete(k)
	}
}
