package postgres_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/postgres/postgrestest"
	"reeve.dev/reeve/store/storetest"
)

// A database of an earlier schema, with data in it, is brought to this one;
// package sqlite does so from each.
func TestOpen_upgrades(t *testing.T) {
	server := postgrestest.Start(t)
	migrations := t.TempDir()
	names, err := filepath.Glob("../migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile(`\bTEXT\b`).ReplaceAll(text, []byte(`TEXT COLLATE "C"`))
		text = regexp.MustCompile(`\bBLOB\b`).ReplaceAll(text, []byte("BYTEA"))
		if err := os.WriteFile(filepath.Join(migrations, filepath.Base(name)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []int64{9, 80} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			url, documents := server.URL(t), t.TempDir()
			db, err := sql.Open("pgx", url)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			storetest.Upgrade(t, storetest.Former{
				DB: db, Dialect: goose.DialectPostgres, Migrations: os.DirFS(migrations),
				Value: func(n int) string { return fmt.Sprintf("$%d", n) },
				Columns: func(t *testing.T, table string) (columns []string) {
					rows, err := db.Query("SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1", table)
					if err != nil {
						t.Fatal(err)
					}
					defer rows.Close()
					for rows.Next() {
						var name string
						if err := rows.Scan(&name); err != nil {
							t.Fatal(err)
						}
						columns = append(columns, name)
					}
					return columns
				},
				Open: func(t *testing.T) *store.Store { return open(t, url, documents) },
			}, version)
		})
	}
}
