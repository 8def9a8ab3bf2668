package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"reeve.dev/reeve/event"
	scankube "reeve.dev/reeve/scan/kube"
)

// rememberEvery is how often it is written down what runs.
const rememberEvery = 5 * time.Second

// watchDeployments tells the hub what is deployed in the cluster: each image
// once that a workload runs and didn't run before. What it told is on the disk,
// so that the next process doesn't tell it again; what it tells twice after a
// crash has the same id.
func (a *Agent) watchDeployments(ctx context.Context) error {
	if !a.cfg.Events.Deployed && !a.cfg.Insights.Inventory {
		return nil
	}
	config, err := scankube.Config(a.cfg.Kubeconfig, "")
	if err != nil {
		return fmt.Errorf("events.deployed: %w", err)
	}
	file := filepath.Join(a.cfg.DataDir, "deployed.json")
	known, err := readKeys(file)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		// The machine went down while it was written.
		a.log.WarnContext(ctx, "what ran before is lost: what runs is told again", "file", file, "error", err)
	case err != nil:
		return fmt.Errorf("dataDir: %w", err)
	}
	tell := func(d scankube.Deployment) error {
		if !a.cfg.Events.Deployed {
			return nil
		}
		return a.putEvent(ctx, deployed(d, time.Now()))
	}
	watcher, err := scankube.NewWatcher(config, known, []string{event.ProfileAnnotation}, tell, a.component("deployed"))
	if err != nil {
		return fmt.Errorf("events.deployed: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- watcher.Run(ctx) }()
	if a.cfg.Insights.Inventory {
		var reporting sync.WaitGroup
		reporting.Go(func() { a.reportInventory(ctx, watcher) })
		defer reporting.Wait()
	}
	tick := time.NewTicker(rememberEvery)
	defer tick.Stop()
	for last, ended := known, false; !ended; {
		select {
		case <-tick.C:
		case err = <-done:
			ended = true
		}
		if keys := watcher.Running(); !slices.Equal(keys, last) {
			if err := writeKeys(file, keys); err != nil {
				a.log.WarnContext(ctx, "it isn't written down what runs: the next start tells it again", "error", err)
			} else {
				last = keys
			}
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("events.deployed: %w", err)
}

// deployed is the event of a deployment. The hub sets the source.
func deployed(d scankube.Deployment, now time.Time) *event.Event {
	e := &event.Event{
		Source: "/agents/self", Name: fmt.Sprintf("%x", sha256.Sum256([]byte(d.PodID+"\n"+d.Key()))), Type: event.ContainerDeployed,
		Subject: d.Namespace + "/" + d.Pod + "/" + d.Container, Time: now,
		Data: event.Data{
			Namespace: d.Namespace, Pod: d.Pod, Container: d.Container, Image: d.Image, ImageDigest: d.Digest,
			Labels: d.Labels, Annotations: d.Annotations,
		},
	}
	if d.Kind != "" {
		e.Data.Workload = &event.Workload{Kind: d.Kind, Name: d.Workload}
	}
	return e
}

// putEvent keeps an event until the hub has it.
func (a *Agent) putEvent(ctx context.Context, e *event.Event) error {
	body, err := e.Marshal()
	if err != nil {
		return err
	}
	return a.events.Put(context.WithoutCancel(ctx), e.Name, e.Type, bytes.NewReader(body))
}

func readKeys(file string) (keys []string, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &keys)
	}
	return keys, err
}

func writeKeys(file string, keys []string) error {
	text, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
