package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/callmask/callmask/bench/proc"
)

// Client commands a generator's process. One thing happens at a time.
type Client struct {
	child *proc.Child
	in    *json.Encoder
	out   *json.Decoder
}

// NewClient returns a Client for a process that runs Serve on its standard input
// and output.
func NewClient(child *proc.Child) *Client {
	return &Client{child: child, in: json.NewEncoder(child.Stdin), out: json.NewDecoder(child.Lines)}
}

// Pid returns the process id of the generator.
func (c *Client) Pid() int { return c.child.Pid() }

// Usage is what the generator has cost.
func (c *Client) Usage() (proc.Usage, error) { return c.child.Usage() }

// Table has the generator prepare calls of a table.
func (c *Client) Table(ctx context.Context, path string, form Form, seed uint64) error {
	_, err := c.tell(ctx, &order{Table: path, Form: form, Seed: seed})
	return err
}

// Run makes one load. before is called when everything is connected and warm, after
// when the load is over: together they frame what is measured.
func (c *Client) Run(ctx context.Context, spec Spec, before, after func() error) (Result, error) {
	if _, err := c.tell(ctx, &order{Run: &spec}); err != nil {
		return Result{}, err
	}
	if err := before(); err != nil {
		return Result{}, err
	}
	answer, err := c.tell(ctx, &order{Go: true})
	if err != nil {
		return Result{}, err
	}
	if answer.Result == nil {
		return Result{}, errors.New("the load generator gave no result")
	}
	return *answer.Result, after()
}

func (c *Client) tell(ctx context.Context, o *order) (report, error) {
	done := make(chan error, 1)
	var answer report
	go func() {
		err := c.in.Encode(o)
		if err == nil {
			err = c.out.Decode(&answer)
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return report{}, fmt.Errorf("load generator: %w", errors.Join(err, c.child.Err()))
		}
	case <-ctx.Done():
		c.child.Stop() // which ends the goroutine above
		return report{}, errors.Join(ctx.Err(), <-done)
	}
	if answer.Error != "" {
		return report{}, fmt.Errorf("load generator: %s", answer.Error)
	}
	return answer, nil
}
