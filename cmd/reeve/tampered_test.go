package main

import (
	"database/sql"

	"github.com/rogpeppe/go-internal/testscript"
)

// tamper runs a statement in the hub's database, behind its back: sql STATEMENT.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sql STATEMENT")
	}
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs("hub/data/reeve.db")+"?_pragma=busy_timeout(10000)")
	ts.Check(err)
	defer db.Close()
	_, err = db.Exec(args[0])
	ts.Check(err)
}
