package store

import (
	"slices"
	"strings"

	"reeve.dev/reeve/fleet"
)

// inScopes is the condition that a row is in one of the scopes, by its columns
// of agent and namespace; what is in a table without the latter is in none. It
// is empty where scopes is nil, which means the whole fleet.
func inScopes(scopes []fleet.Scope, agent, namespace string) (cond string, args []any) {
	if scopes == nil {
		return "", nil
	}
	either := []string{"1 = 0"}
	for _, s := range scopes {
		if namespace == "" && !s.AllNamespaces() {
			continue
		}
		both := "(" + like(agent, s.Agents, &args)
		if namespace != "" {
			both += " AND " + like(namespace, s.Namespaces, &args)
		}
		either = append(either, both+")")
	}
	return "(" + strings.Join(either, " OR ") + ")", args
}

// like is the condition that a column is one of patterns, as fleet.Scope has
// them: in lower case, with no characters that LIKE knows.
func like(column string, patterns []string, args *[]any) string {
	if len(patterns) == 0 || slices.Contains(patterns, "*") {
		return "1 = 1"
	}
	var either []string
	for _, p := range patterns {
		op := " = ?"
		if strings.Contains(p, "*") {
			op = " LIKE ?"
		}
		either = append(either, column+op)
		*args = append(*args, strings.ReplaceAll(p, "*", "%"))
	}
	return "(" + column + " <> '' AND (" + strings.Join(either, " OR ") + "))"
}
