package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/callmask/callmask/bench/world"
)

// order is what the harness tells the generator's process, one JSON line each.
type order struct {
	Table string `json:"table,omitempty"` // read this table; prepare calls of Form
	Form  Form   `json:"form,omitempty"`
	Seed  uint64 `json:"seed,omitempty"`
	Run   *Spec  `json:"run,omitempty"` // connect and warm up, then wait for Go
	Go    bool   `json:"go,omitempty"`
}

// report is the generator's answer to each.
type report struct {
	Error  string  `json:"error,omitempty"`
	Ready  bool    `json:"ready,omitempty"`
	Result *Result `json:"result,omitempty"`
}

// Serve is the generator's process: it obeys orders from in until it ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	orders := json.NewDecoder(bufio.NewReader(in))
	answers := json.NewEncoder(out)
	s := &server{tables: map[string]*world.Table{}, calls: map[prepared]*Calls{}}
	defer s.close()
	for {
		var o order
		err := orders.Decode(&o)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("load: read an order: %w", err)
		}
		answer, err := s.obey(ctx, &o)
		if err != nil {
			answer = report{Error: err.Error()}
		}
		if err := answers.Encode(answer); err != nil {
			return fmt.Errorf("load: answer: %w", err)
		}
	}
}

// server keeps every table it was told of, and the calls prepared of it.
type server struct {
	tables map[string]*world.Table
	calls  map[prepared]*Calls
	now    *Calls
	run    *Run
}

// prepared names a set of calls.
type prepared struct {
	table string
	form  Form
}

func (s *server) obey(ctx context.Context, o *order) (report, error) {
	switch {
	case o.Table != "":
		return report{Ready: true}, s.prepare(o)
	case o.Run != nil:
		s.close()
		if s.now == nil {
			return report{}, errors.New("no calls are prepared")
		}
		ctx, cancel := context.WithTimeout(ctx, o.Run.Warm+time.Minute)
		defer cancel()
		var err error
		s.run, err = Prepare(ctx, s.now, *o.Run)
		return report{Ready: true}, err
	case o.Go && s.run != nil:
		result, err := s.run.Go(ctx)
		s.close()
		return report{Result: &result}, err
	}
	return report{}, errors.New("the order makes no sense now")
}

// prepare makes the calls of a table the ones of the next runs.
func (s *server) prepare(o *order) error {
	name := prepared{o.Table, o.Form}
	if s.calls[name] == nil {
		if s.tables[o.Table] == nil {
			t, err := world.ReadTable(o.Table)
			if err != nil {
				return err
			}
			if len(t.Bindings) == 0 {
				return errors.New("the table of calls is empty")
			}
			s.tables[o.Table] = t
		}
		s.calls[name] = NewCalls(s.tables[o.Table], o.Form, o.Seed)
	}
	s.now = s.calls[name]
	return nil
}

func (s *server) close() {
	if s.run != nil {
		s.run.Close()
		s.run = nil
	}
}
