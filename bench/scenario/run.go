package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Choose returns the scenarios of the given names; without names all, those that
// take long only when asked for.
func Choose(names []string, full bool) ([]Scenario, error) {
	var chosen []Scenario
	for _, s := range All() {
		if slices.Contains(names, s.Name) || len(names) == 0 && (full || !s.Full) {
			chosen = append(chosen, s)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(All(), func(s Scenario) bool { return s.Name == name }) {
			return nil, fmt.Errorf("%q is not a scenario: see bench list", name)
		}
	}
	return chosen, nil
}

// The sizes of a short and of a full run.
const (
	shortOrders = 500
	fullOrders  = 1_000_000
)

// Check fills in what Short and Full decide and finds what makes no sense.
func (o *Options) Check() error {
	if o.Short {
		o.Rounds, o.Seconds, o.Orders, o.Conns, o.Soak = 1, 0.1, shortOrders, 16, time.Second
	}
	if o.Full && !o.Short {
		o.Orders = max(o.Orders, fullOrders)
	}
	switch {
	case o.Rounds < 1:
		return errors.New("--rounds must be at least 1")
	case o.Seconds < 0.05 || o.Seconds > 3600:
		return errors.New("--seconds must be between 0.05 and 3600")
	case o.Orders < 100 || o.Orders > 20_000_000:
		return errors.New("--orders must be between 100 and 20000000")
	case o.Conns < 1 || o.Conns > 10_000:
		return errors.New("--conns must be between 1 and 10000")
	case o.Soak < time.Second:
		return errors.New("--soak must be at least 1s")
	}
	return nil
}

// RunAll runs the scenarios one after the other. One that cannot run does not keep
// the others from running; the errors of all come together.
func (e *Env) RunAll(ctx context.Context, scenarios []Scenario) error {
	var errs []error
	for _, s := range scenarios {
		e.Progress.Begin(s.Name)
		e.Report.Scenarios = append(e.Report.Scenarios, s.Name)
		if err := s.Run(ctx, e); err != nil {
			if !strings.HasPrefix(err.Error(), s.Name) {
				err = fmt.Errorf("%s: %w", s.Name, err)
			}
			errs = append(errs, err)
			e.Report.Note("%v", err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}
