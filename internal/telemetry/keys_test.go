package telemetry_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The keys of log entries are the same everywhere: who searches logs for what
// happened to an agent or a scan finds it under one name.
func TestKeys(t *testing.T) {
	instead := map[string]string{
		"err": "error", "cause_error": "error", "ns": "namespace", "agent_name": "agent", "agentName": "agent", "scanID": "scan", "scan_id": "scan",
		"policyName": "policy", "profileName": "profile", "sinkName": "sink", "remoteAddr": "remote", "addr": "remote", "duration": "took", "elapsed": "took",
	}
	shape := regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)
	root := filepath.Join("..", "..")
	calls := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "e2e", "tools", "node_modules"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			for _, key := range keysOf(call) {
				calls++
				if other, ok := instead[key]; ok || !shape.MatchString(key) {
					t.Errorf("%s: key %q: %s", set.Position(call.Pos()), key, other)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls < 300 {
		t.Errorf("only %d keys were found", calls)
	}
}

// keysOf are the keys that a call of a slog.Logger's method names.
func keysOf(call *ast.CallExpr) (keys []string) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	if pkg, ok := method.X.(*ast.Ident); ok && slices.Contains([]string{"http", "status", "huma"}, pkg.Name) {
		return nil // their Error is another
	}
	args := call.Args
	switch method.Sel.Name {
	case "DebugContext", "InfoContext", "WarnContext", "ErrorContext":
		args = args[min(2, len(args)):]
	case "Debug", "Info", "Warn", "Error":
		args = args[min(1, len(args)):]
	case "Log":
		args = args[min(3, len(args)):]
	case "With":
	default:
		return nil
	}
	for i := 0; i+1 < len(args); i += 2 {
		text, ok := args[i].(*ast.BasicLit)
		if !ok || text.Kind != token.STRING {
			return keys // not a logger's, or attributes
		}
		key, err := strconv.Unquote(text.Value)
		if err != nil {
			return keys
		}
		keys = append(keys, key)
	}
	return keys
}
