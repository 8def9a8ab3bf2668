package sqlite_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/storetest"
)

// A database of each earlier schema, with data in it, is brought to this one.
func TestOpen_upgrades(t *testing.T) {
	migrations := os.DirFS("../migrations")
	for _, version := range storetest.Schemas(t, migrations) {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "reeve.db")
			// What an earlier version did needn't survive the loss of power.
			db, err := sql.Open("sqlite", path+"?_pragma=synchronous(0)&_pragma=journal_mode(memory)")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			storetest.Upgrade(t, storetest.Former{
				DB: db, Dialect: goose.DialectSQLite3, Migrations: migrations,
				Value: func(int) string { return "?" },
				Columns: func(t *testing.T, table string) (columns []string) {
					rows, err := db.Query("SELECT name FROM pragma_table_info(?)", table)
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
				Open: func(t *testing.T) *store.Store { return open(t, path) },
			}, version)
		})
	}
}
