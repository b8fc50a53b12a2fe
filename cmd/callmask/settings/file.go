package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// file is a parsed callmask.yaml. Variables are expanded after parsing, so no
// value of a variable can change the file's structure.
type file struct {
	name    string // as errors show it
	doc     document
	lines   map[string]int    // path such as pools[0].cooldown → line
	places  map[[2]int]string // line, column of a value or key → its path
	require func(string) (string, bool)
}

type document struct {
	scalars  map[string]string
	Pools    []filePool
	Carriers []CarrierKeys
}

func (d *document) scalar(key string) (string, bool) {
	s, ok := d.scalars[key]
	return s, ok
}

// filePool is a pool as it is written; what is left out is nil.
type filePool struct {
	Name        string   `yaml:"name"`
	Region      string   `yaml:"region"`
	Carriers    []string `yaml:"carriers"`
	LowWater    *int     `yaml:"low_water"`
	Target      *int     `yaml:"target"`
	Max         *int     `yaml:"max"`
	Cooldown    *string  `yaml:"cooldown"`
	TTL         fileTTL  `yaml:"ttl"`
	AssignWait  *string  `yaml:"assign_wait"`
	Destination []string `yaml:"destinations"`
	Forecast    *bool    `yaml:"forecast"`
	MonthlyCap  *string  `yaml:"monthly_cap"`
	Surplus     *string  `yaml:"surplus_after"`
}

type fileTTL struct {
	Default *string `yaml:"default"`
	Max     *string `yaml:"max"`
}

// parse reads text; an empty name means that there is no file.
func parse(name string, text []byte, env func(string) (string, bool)) (*file, error) {
	f := &file{
		name: filepath.Base(name), lines: map[string]int{}, places: map[[2]int]string{}, require: env,
		doc: document{scalars: map[string]string{}},
	}
	if name == "" {
		return f, nil
	}
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, f.syntaxError(err, text)
	}
	if len(tree.Docs) > 1 {
		return nil, fmt.Errorf("%s: holds more than one YAML document", f.name)
	}
	if len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return f, nil
	}
	body := tree.Docs[0].Body
	if err := f.walk(body, ""); err != nil {
		return nil, err
	}
	top, err := f.mapping(body)
	if err != nil {
		return nil, err
	}
	for _, kv := range top {
		if err := f.top(kv); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *file) mapping(n ast.Node) ([]*ast.MappingValueNode, error) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	case *ast.NullNode, *ast.CommentGroupNode:
		return nil, nil
	}
	return nil, fmt.Errorf("%s:%d: must start with keys such as pools and carriers", f.name, n.GetToken().Position.Line)
}

func (f *file) top(kv *ast.MappingValueNode) error {
	key := keyOf(kv)
	var err error
	switch key {
	case "pools":
		err = yaml.NodeToValue(kv.Value, &f.doc.Pools, yaml.Strict())
	case "carriers":
		err = yaml.NodeToValue(kv.Value, &f.doc.Carriers, yaml.Strict())
	default:
		if !slices.ContainsFunc(scalars, func(c scalar) bool { return c.key == key }) {
			return f.errorf(key, "is no setting%s", suggest(key, append(scalarKeys(), "pools", "carriers")))
		}
		switch v := kv.Value.(type) {
		case *ast.NullNode:
		case *ast.StringNode:
			f.doc.scalars[key] = v.Value
		case *ast.LiteralNode:
			f.doc.scalars[key] = strings.TrimSpace(v.Value.Value)
		case ast.ScalarNode:
			f.doc.scalars[key] = v.GetToken().Value
		default:
			return f.errorf(key, "must be a single value")
		}
	}
	if err != nil {
		return f.yamlError(err)
	}
	return nil
}

// walk notes where every path stands and expands ${VAR} in every string.
func (f *file) walk(n ast.Node, path string) error {
	f.note(n, path)
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, kv := range n.Values {
			if err := f.walk(kv, path); err != nil {
				return err
			}
		}
	case *ast.MappingValueNode:
		at := keyOf(n)
		if path != "" {
			at = path + "." + at
		}
		f.note(n.Key, at)
		return f.walk(n.Value, at)
	case *ast.SequenceNode:
		for i, v := range n.Values {
			if err := f.walk(v, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case *ast.StringNode:
		var err error
		n.Value, err = f.expand(n.Value, path)
		return err
	case *ast.LiteralNode:
		var err error
		n.Value.Value, err = f.expand(n.Value.Value, path)
		return err
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return f.errorf(path, "must not be a fraction (quote it if it is a text)")
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return f.errorf(path, "uses a YAML anchor, alias or tag, which is not supported here")
	}
	return nil
}

func (f *file) note(n ast.Node, path string) {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return
	}
	p := n.GetToken().Position
	if _, ok := f.lines[path]; !ok {
		f.lines[path] = p.Line
	}
	place := [2]int{p.Line, p.Column}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		if _, ok := f.places[place]; ok {
			return
		}
	}
	f.places[place] = path
}

// expand replaces each ${NAME} by the variable's value; $${ stands for ${ itself.
func (f *file) expand(s, path string) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", f.errorf(path, "has ${ without } (write $${ for the characters themselves)")
		}
		name := s[i+2 : i+end]
		if !isVariable(name) {
			return "", f.errorf(path, "has ${%s}, which is no variable's name", printable(name))
		}
		value, ok := f.require(name)
		if !ok || value == "" {
			return "", f.errorf(path, "needs the environment variable %s, which is not set", name)
		}
		b.WriteString(value)
		s = s[i+end+1:]
	}
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		if c != '_' && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// at names a setting of the file: callmask.yaml:12: pools[0].cooldown.
func (f *file) at(path string) string {
	p := path
	for p != "" {
		if line, ok := f.lines[p]; ok {
			return fmt.Sprintf("%s:%d: %s", f.name, line, path)
		}
		p = p[:max(0, strings.LastIndexAny(p, ".["))]
	}
	return path
}

func (f *file) errorf(path, format string, args ...any) error {
	return fmt.Errorf("%s: %w", f.at(path), fmt.Errorf(format, args...))
}

// yamlError turns an error of the YAML library into one line without the source,
// which may hold secrets.
func (f *file) yamlError(err error) error {
	var e yaml.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: is not valid YAML", f.name)
	}
	var line int
	var path string
	if t := e.GetToken(); t != nil && t.Position != nil {
		line, path = t.Position.Line, f.places[[2]int{t.Position.Line, t.Position.Column}]
	}
	var unknown *yaml.UnknownFieldError
	var mismatch *yaml.TypeError
	var overflow *yaml.OverflowError
	var node *yaml.UnexpectedNodeTypeError
	switch {
	case errors.As(err, &unknown):
		key := path[strings.LastIndexByte(path, '.')+1:]
		return fmt.Errorf("%s:%d: %s is no setting%s", f.name, line, path, suggest(key, keysAt(path)))
	case errors.As(err, &mismatch):
		return fmt.Errorf("%s:%d: %s must be %s", f.name, line, path, describe(mismatch.DstType))
	case errors.As(err, &overflow):
		return fmt.Errorf("%s:%d: %s is too large", f.name, line, path)
	case errors.As(err, &node):
		return fmt.Errorf("%s:%d: %s must not be a %s", f.name, line, path, strings.ToLower(node.Actual.String()))
	}
	return fmt.Errorf("%s:%d: is not valid YAML", f.name, line)
}

func (f *file) syntaxError(err error, text []byte) error {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil {
		return fmt.Errorf("%s: is not valid YAML", f.name)
	}
	line := e.GetToken().Position.Line
	hint := ""
	if lines := strings.Split(string(text), "\n"); line > 0 && line <= len(lines) && strings.Contains(lines[line-1], "${") {
		hint = "; inside [ ] and { } write \"${NAME}\" in quotes"
	}
	return fmt.Errorf("%s:%d: is not valid YAML: %s%s", f.name, line, printable(e.GetMessage()), hint)
}
