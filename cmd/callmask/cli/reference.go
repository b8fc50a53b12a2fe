package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// exitCode is what a process's exit code means.
type exitCode struct {
	code    int
	meaning string
}

// exitCodes are those of every command; a command's help says what 1 means for it.
var exitCodes = []exitCode{
	{ExitDone, "It was done; what was asked for is so."},
	{ExitNo, "callmask said no: an unknown order, a conflict, a call that would be refused, a mismatch or something that fails. The command has printed what."},
	{ExitFailed, "It could not be done or looked at: wrong usage, wrong settings, nothing answers. One line on standard error says what."},
}

// Reference renders the page of all commands from what their help says.
func Reference() (string, error) {
	k, err := parser(&commands{}, Process{})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Commands\n\nWhat `callmask <command> --help` says, on one page, written by `make generate`. Every setting is a flag of the commands " +
		"that need it ([settings.md](settings.md)); those are left out here.\n\n" +
		"## Output\n\nData goes to standard output, everything else (errors, progress) to standard error. `-o` (`--output`) chooses the form: `table` for people, `json`, " +
		"`yaml`, and `jsonl` (one object a line) where a list may be long. Names of fields are the same in all but the table. Colours are for terminals only, and not used when " +
		"`NO_COLOR` is set or `TERM` is `dumb`. Numbers of people are masked unless `--reveal` asks for them.\n\n" +
		"## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, e.meaning)
	}
	group := ""
	for _, n := range k.Model.Leaves(true) {
		if g := n.ClosestGroup(); g != nil && g.Title != group {
			group = g.Title
			fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(group, ":"))
		}
		refer(&b, n)
	}
	return b.String(), nil
}

// refer writes the section of one command.
func refer(b *strings.Builder, n *kong.Node) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n```text\ncallmask %s\n\n%s\n```\n", n.FullPath(), n.Help, n.Summary(), strings.TrimSpace(n.Detail))
	var rows strings.Builder
	for _, a := range n.Positional {
		fmt.Fprintf(&rows, "| `%s` | %s |\n", a.Summary(), tableCell(a.Help))
	}
	for _, flags := range n.AllFlags(true) {
		for _, f := range flags {
			if len(f.Envs) > 0 || f.Name == "help" {
				continue
			}
			fmt.Fprintf(&rows, "| `%s` | %s |\n", strings.TrimSpace(f.String()), tableCell(f.Help))
		}
	}
	if rows.Len() > 0 {
		fmt.Fprintf(b, "\n| | |\n|---|---|\n%s", rows.String())
	}
}

func tableCell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
