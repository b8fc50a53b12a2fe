package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
)

// The forms in which data is printed.
const (
	asTable = "table"
	asJSON  = "json"
	asLines = "jsonl"
	asYAML  = "yaml"
)

// output is the flag of every command that prints data.
type output struct {
	Output string `short:"o" enum:"table,json,yaml" default:"table" help:"Form of what is printed: table, json or yaml."`
	JSON   bool   `hidden:"" help:"The same as -o json."`
}

// print prints data, by table where that is wanted.
func (o *output) print(out io.Writer, data any, table func(io.Writer) error) error {
	if o.JSON {
		return printAs(asJSON, out, data, table)
	}
	return printAs(o.Output, out, data, table)
}

// listOutput is the flag of a command that prints a list, which may be long.
type listOutput struct {
	Output string `short:"o" enum:"table,json,jsonl,yaml" default:"table" help:"Form of what is printed: table, json, jsonl (one object a line) or yaml."`
}

// printList prints rows, by table where that is wanted.
func printList[T any](o *listOutput, out io.Writer, rows []T, table func(io.Writer) error) error {
	if o.Output == asLines {
		return printLines(out, rows)
	}
	if rows == nil {
		rows = []T{}
	}
	return printAs(o.Output, out, rows, table)
}

func printAs(form string, out io.Writer, data any, table func(io.Writer) error) error {
	var err error
	switch form {
	case asJSON:
		err = printJSON(out, data)
	case asYAML:
		err = printYAML(out, data)
	default:
		err = table(out)
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printYAML prints what printJSON would, as YAML: the names and the order are those of JSON.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text, err := yaml.JSONToYAML(b)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// printLines prints one JSON object a line.
func printLines[T any](out io.Writer, rows []T) error {
	enc := json.NewEncoder(out)
	for i := range rows {
		if err := enc.Encode(&rows[i]); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}
