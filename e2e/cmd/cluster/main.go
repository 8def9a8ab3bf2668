// Command cluster starts the tests' Kubernetes and keeps it until it is
// interrupted, for trying things by hand, and for the tests of the main module:
// it prints the KUBECONFIG to use. A pod web-app runs in the namespaces default
// and shop; kubectl and helm are in the folder that it prints.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strings"
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
	if err := furnish(ctx, c, dir); err != nil {
		log.Print(err)
		return
	}
	fmt.Printf("export KUBECONFIG=%s\nexport PATH=%s:$PATH\n", c.Kubeconfig, dir+"/bin")
	<-ctx.Done()
}

// furnish puts the clients there, and something that runs.
func furnish(ctx context.Context, c *cluster.Cluster, dir string) error {
	helm := exec.CommandContext(ctx, "go", "tool", "-n", "helm.sh/helm/v3/cmd/helm")
	helm.Env, helm.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	out, err := helm.Output()
	if err != nil {
		return fmt.Errorf("building helm: %w", err)
	}
	if err := os.MkdirAll(dir+"/bin", 0o755); err != nil {
		return err
	}
	for name, path := range map[string]string{"kubectl": c.Bin("kubectl"), "helm": strings.TrimSpace(string(out))} {
		if err := os.Symlink(path, dir+"/bin/"+name); err != nil {
			return err
		}
	}
	if err := c.Load(ctx, cluster.Image{Name: "reeve.test/web:1", Cmd: []string{"/bin/sh", "-c", "while true; do date; sleep 1; done"}, Files: []cluster.File{
		{Path: "etc/passwd", Body: "root:x:0:0:root:/root:/bin/sh\n"},
		{Path: "etc/os-release", Body: "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"test\"\n"},
	}}); err != nil {
		return err
	}
	return c.Apply(ctx, pods)
}

const pods = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web-app, namespace: shop, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: "reeve.test/web:1", imagePullPolicy: Never}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-app, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "reeve.test/web:1", imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-app, namespace: default, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: "reeve.test/web:1", imagePullPolicy: Never}]
`
