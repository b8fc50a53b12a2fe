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
	s := &server{}
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

// server keeps the last two sets of calls: two forms of one table.
type server struct {
	table string
	calls map[Form]*Calls
	read  *world.Table
	run   *Run
}

func (s *server) obey(ctx context.Context, o *order) (report, error) {
	switch {
	case o.Table != "":
		if o.Table != s.table {
			t, err := world.ReadTable(o.Table)
			if err != nil {
				return report{}, err
			}
			if len(t.Bindings) == 0 {
				return report{}, errors.New("the table of calls is empty")
			}
			s.table, s.read, s.calls = o.Table, t, map[Form]*Calls{}
		}
		if s.calls[o.Form] == nil {
			s.calls[o.Form] = NewCalls(s.read, o.Form, o.Seed)
		}
		return report{Ready: true}, nil
	case o.Run != nil:
		s.close()
		calls := s.calls[o.Run.Form]
		if calls == nil {
			return report{}, fmt.Errorf("no calls of form %q are prepared", o.Run.Form)
		}
		ctx, cancel := context.WithTimeout(ctx, o.Run.Warm+time.Minute)
		defer cancel()
		var err error
		s.run, err = Prepare(ctx, calls, *o.Run)
		return report{Ready: true}, err
	case o.Go && s.run != nil:
		result, err := s.run.Go(ctx)
		s.close()
		return report{Result: &result}, err
	}
	return report{}, errors.New("the order makes no sense now")
}

func (s *server) close() {
	if s.run != nil {
		s.run.Close()
		s.run = nil
	}
}
