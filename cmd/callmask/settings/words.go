package settings

import (
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func keyOf(kv *ast.MappingValueNode) string {
	if s, ok := kv.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return kv.Key.GetToken().Value
}

func scalarKeys() []string {
	keys := make([]string, 0, len(scalars)+2)
	for i := range scalars {
		keys = append(keys, scalars[i].key)
	}
	return keys
}

// keysAt lists the keys that could stand beside path.
func keysAt(path string) []string {
	var t reflect.Type
	switch {
	case strings.Contains(path, ".ttl."):
		t = reflect.TypeFor[fileTTL]()
	case strings.HasPrefix(path, "pools["):
		t = reflect.TypeFor[filePool]()
	case strings.HasPrefix(path, "carriers["):
		t = reflect.TypeFor[CarrierKeys]()
	default:
		return nil
	}
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

// suggest gives "; did you mean x?" when a known key is near.
func suggest(key string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := distance(key, k); d < at {
			best, at = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is the Levenshtein distance of two short strings.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func describe(t reflect.Type) string {
	if t == nil {
		return "of another kind"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.String:
		return "a single value"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "a group of settings"
	default:
		return "of another kind"
	}
}

// printable keeps an author's slip readable without letting it break the line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return s
}
