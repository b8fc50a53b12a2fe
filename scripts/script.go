package scripts

import (
	"embed"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var files embed.FS

const includeMark = "-- include "

// registry holds the scripts as Redis runs them, their includes expanded.
type registry struct {
	allocate, settle, release, extend, refill, drain, reap, stock, restore, remind, forget *redis.Script
	all                                                                                    []*redis.Script
}

func newRegistry() (*registry, error) {
	r := &registry{}
	for _, s := range []struct {
		to   **redis.Script
		name string
	}{
		{&r.allocate, "allocate"},
		{&r.settle, "settle"},
		{&r.release, "release"},
		{&r.extend, "extend"},
		{&r.refill, "refill"},
		{&r.drain, "drain"},
		{&r.reap, "reap"},
		{&r.stock, "stock"},
		{&r.restore, "restore"},
		{&r.remind, "remind"},
		{&r.forget, "forget"},
	} {
		source, err := Source(s.name)
		if err != nil {
			return nil, err
		}
		*s.to = redis.NewScript(source)
		r.all = append(r.all, *s.to)
	}
	return r, nil
}

// Source returns the named script as Redis runs it: each line `-- include <file>`
// is replaced by that file of lua/.
func Source(name string) (string, error) {
	text, err := files.ReadFile("lua/" + name + ".lua")
	if err != nil {
		return "", fmt.Errorf("script %s: %w", name, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for i, line := range lines {
		file, ok := strings.CutPrefix(strings.TrimSpace(line), includeMark)
		if !ok {
			continue
		}
		included, err := files.ReadFile("lua/" + file)
		if err != nil {
			return "", fmt.Errorf("script %s: %w", name, err)
		}
		lines[i] = string(included)
	}
	return strings.Join(lines, ""), nil
}
