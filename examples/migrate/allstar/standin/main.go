// Command standin answers as GitHub would for an organisation acme: the files of
// a folder are its repository .allstar, and it has the repositories shop, whose
// branch isn't protected, and playground-1. It prints what becomes of issues.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"reeve.dev/reeve/policy/github/githubtest"
)

func main() {
	addr := flag.String("listen", "127.0.0.1:8400", "`address`")
	dir := flag.String("allstar", "before/.allstar", "`folder` with the organisation's files")
	flag.Parse()
	if err := serve(*addr, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func serve(addr, dir string) error {
	github := githubtest.New()
	org := github.Add("acme", ".allstar")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		org.Put(filepath.Base(file), string(text))
	}
	github.Add("acme", "shop")
	github.Add("acme", "playground-1")
	server := &http.Server{Addr: addr, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		github.ServeHTTP(w, r)
		if r.Method == http.MethodPost || r.Method == http.MethodPatch {
			tell(github)
		}
	})}
	fmt.Println("listening on", addr)
	return server.ListenAndServe()
}

// tell prints all issues.
func tell(github *githubtest.Server) {
	github.Lock()
	defer github.Unlock()
	for _, repo := range github.Repos {
		for _, i := range repo.Issues {
			fmt.Printf("%s/%s #%d %s: %s %v\n", repo.Owner, repo.Name, i.Number, i.State, i.Title, i.Labels)
		}
	}
}
