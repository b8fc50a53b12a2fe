package main

import (
	"fmt"
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
)

// progress shows a person how far things are: a bar on a terminal, a line for each
// scenario elsewhere.
type progress struct {
	out io.Writer
	bar *progressbar.ProgressBar // nil: no terminal
	max int
}

func newProgress(out *os.File) *progress {
	p := &progress{out: out}
	if isatty.IsTerminal(out.Fd()) {
		p.bar = progressbar.NewOptions(1, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(24),
			progressbar.OptionShowCount(), progressbar.OptionSetElapsedTime(true), progressbar.OptionSetPredictTime(false),
			progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())
	}
	return p
}

// Begin implements scenario.Progress.
func (p *progress) Begin(scenario string) {
	if p.bar == nil {
		_, _ = fmt.Fprintln(p.out, "bench:", scenario) // a terminal that is gone cannot be told so
	}
	p.Doing(scenario)
}

// More implements scenario.Progress.
func (p *progress) More(steps int) {
	if p.bar != nil {
		p.max += steps
		p.bar.ChangeMax(p.max + 1) // never full before the end
	}
}

// Doing implements scenario.Progress.
func (p *progress) Doing(what string) {
	if p.bar != nil {
		p.bar.Describe(what)
	}
}

// Step implements scenario.Progress.
func (p *progress) Step() {
	if p.bar != nil {
		_ = p.bar.Add(1) // it only draws
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish() // it only draws
	}
}
