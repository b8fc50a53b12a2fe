// Command logsdoc writes docs/logs.md: every line that callmask can log from level info
// up, read from the source, so the page cannot name one that does not exist or leave one
// out.
//
//	log.Warn().Err(err).Str("pool", p).Msg("…") ──▶ | warn | allocator | … | pool, error |
package main

//go:generate go run . ../../.. ../../../docs/logs.md

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const head = "# Logs\n\n" +
	"One JSON object a line on standard error (`--log-format console` for people): `level`, `time`, `message`, `room` (who\n" +
	"wrote it) and the fields below. `message` is the event's name: it is the same every time and never holds a value, so it can be searched and\n" +
	"alerted on. Numbers in fields are masked. Level debug has more, meant for whoever changes the code.\n" +
	"This page is generated from the source (`make generate`).\n\n" +
	"| level | room | message | fields |\n|---|---|---|---|\n"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "logsdoc: %v\n", err)
		os.Exit(1)
	}
}

// line is one event that can be logged.
type line struct{ level, room, message, fields string }

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("name the root of the source and the file to write")
	}
	var all []line
	for _, room := range []string{"allocator", "audit", "carrier", "cmd", "events", "internal/embedded", "internal/privateapi", "ledger", "replenisher", "router", "scripts", "seal"} {
		err := filepath.WalkDir(filepath.Join(args[0], room), func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			found, err := lines(path, strings.TrimPrefix(room, "internal/"))
			all = append(all, found...)
			return err
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b line) int {
		return cmp.Or(strings.Compare(a.room, b.room), strings.Compare(a.message, b.message), strings.Compare(a.level, b.level), strings.Compare(a.fields, b.fields))
	})
	var page strings.Builder
	page.WriteString(head)
	for _, l := range slices.Compact(all) {
		fmt.Fprintf(&page, "| %s | %s | %s | %s |\n", l.level, l.room, l.message, l.fields)
	}
	return os.WriteFile(args[1], []byte(page.String()), 0o600) // the file exists: its mode stays
}

// lines returns what one file can log.
func lines(path, room string) (found []line, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return nil, err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 || called(call) != "Msg" {
			return true
		}
		text, ok := literal(call.Args[0])
		if !ok {
			return true
		}
		l := line{room: room, message: text}
		var fields []string
		for at := call; at != nil; at = receiver(at) {
			switch name := called(at); name {
			case "Info", "Warn", "Error":
				l.level = strings.ToLower(name)
			case "Err":
				fields = append(fields, "error")
			default:
				if len(at.Args) < 2 {
					continue
				}
				if key, ok := literal(at.Args[0]); ok {
					fields = append(fields, key)
				}
			}
		}
		if l.level != "" {
			slices.Reverse(fields)
			l.fields = strings.Join(fields, ", ")
			found = append(found, l)
		}
		return true
	})
	return found, nil
}

// called returns the name of the method that a call is of.
func called(call *ast.CallExpr) string {
	if method, ok := call.Fun.(*ast.SelectorExpr); ok {
		return method.Sel.Name
	}
	return ""
}

// receiver returns the call whose result a call is made on, or nil.
func receiver(call *ast.CallExpr) *ast.CallExpr {
	if method, ok := call.Fun.(*ast.SelectorExpr); ok {
		if before, ok := method.X.(*ast.CallExpr); ok {
			return before
		}
	}
	return nil
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}
