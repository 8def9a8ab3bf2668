package insight_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"reeve.dev/reeve/insight"
)

// The hub's disk fills up: what it can't store isn't poison, so its agent sends
// it again, and it is taken once there is room.
func TestService_diskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("cannot mount a small disk (%v): run as root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	svc, db := open(t, dir, insight.Limits{})
	r := rand.New(rand.NewPCG(1, 2))
	item := func(i int) insight.Item {
		noise := make([]byte, 100<<10) // doesn't compress
		for n := range noise {
			noise[n] = byte('0' + r.IntN(64))
		}
		noise = []byte(strings.NewReplacer(`\`, "z", `"`, "z").Replace(string(noise)))
		return insight.Item{
			ID: insight.ItemID(fmt.Sprint(i)), Cluster: "edge", Environment: insight.Environment{Namespace: "shop"},
			Content: insight.Document{Kind: insight.KindSBOM, Service: fmt.Sprint("s", i), Data: fmt.Appendf(nil,
				`{"bomFormat":"CycloneDX","specVersion":"1.5","serialNumber":%q,"components":[{"name":"n"}]}`, noise)},
		}
	}
	taken := 0
	var failed insight.Item
	var err error
	for ; err == nil; taken++ {
		if taken > 1000 {
			t.Fatal("the disk doesn't fill up")
		}
		failed = item(taken)
		err = svc.Accept(t.Context(), failed)
	}
	taken--
	var invalid *insight.InvalidError
	if errors.As(err, &invalid) {
		t.Errorf("a full disk makes poison: %v", err)
	}
	if err := svc.Quarantine(t.Context(), insight.Poison{Item: "p", Cluster: "edge", Reason: "?", Message: failed.Content.(insight.Document).Data}); err == nil {
		t.Error("poison was kept on a full disk")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := svc.Accept(t.Context(), failed); err != nil {
			t.Fatalf("with room again: %v", err)
		}
	}
	found, err := db.InsightDocuments(t.Context(), insight.Query{Limit: 1000})
	if err != nil || len(found) != taken+1 {
		t.Errorf("%d documents, %v; %d were taken", len(found), err, taken+1)
	}
}
