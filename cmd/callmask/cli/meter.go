package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// sayEvery is how often a long command says how far it is where there is no terminal.
const sayEvery = 10 * time.Second

// meter shows how far a long command is, on standard error: a bar on a terminal,
// elsewhere a line now and then.
type meter struct {
	out  io.Writer
	what string
	bar  *progressbar.ProgressBar // nil: no terminal
	said time.Time
}

func (p *Process) meter(what string) *meter {
	g := &meter{out: p.Stderr, what: what, said: time.Now()}
	if isTerminal(p.Stderr) {
		g.bar = progressbar.NewOptions(1, progressbar.OptionSetWriter(p.Stderr), progressbar.OptionSetDescription(what),
			progressbar.OptionSetWidth(24), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false),
			progressbar.OptionClearOnFinish())
	}
	return g
}

// at shows that so many are done.
func (g *meter) at(done, of int) {
	switch {
	case of == 0:
	case g.bar != nil:
		g.bar.ChangeMax(of)
		_ = g.bar.Set(done) // a terminal that is gone cannot be told so
	case done < of && time.Since(g.said) >= sayEvery:
		g.said = time.Now()
		fmt.Fprintf(g.out, "%s: %d of %d\n", g.what, done, of)
	}
}

// end takes the bar away.
func (g *meter) end() {
	if g.bar != nil {
		_ = g.bar.Clear() // as above
	}
}
