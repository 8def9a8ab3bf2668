// Command cluster starts the tests' Kubernetes and keeps it until it is
// interrupted, for trying things by hand: it prints the KUBECONFIG to use.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"reeve.dev/reeve/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "reeve-e2e-")
	if err != nil {
		log.Fatal(err)
	}
	c, err := cluster.Start(ctx, dir, log.Printf)
	if err != nil {
		log.Fatalf("%v (logs in %s/log)", err, dir)
	}
	defer os.RemoveAll(dir)
	defer c.Close()
	fmt.Printf("export KUBECONFIG=%s\nexport PATH=%s:$PATH\n", c.Kubeconfig, dir+"/bin")
	if err := os.MkdirAll(dir+"/bin", 0o755); err == nil {
		os.Symlink(c.Bin("kubectl"), dir+"/bin/kubectl")
	}
	<-ctx.Done()
}
