package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// remote has reeve take insights-remote's place, by its flags and variables, in
// a cluster with 10,000 ConfigMaps of which 100 are for it, while the broker is
// away: all 100 are on its disk before they are burned, and it takes less than
// 80 MB of memory.
func (w *world) remote(t *testing.T) {
	const others, ours, most = 9900, 100, 80 << 10 // KiB
	cfg, err := clientcmd.BuildConfigFromFlags("", w.k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "remote", Labels: map[string]string{
		"lagoon.sh/project": "shop", "lagoon.sh/environment": "main", "lagoon.sh/environmentId": "3", "e2e": "remote",
	}}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer client.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), ns.Name, metav1.DeleteOptions{})
	maps := client.CoreV1().ConfigMaps(ns.Name)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range others + ours {
		group.Go(func() error {
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("other-", i)}, Data: map[string]string{"x": string(bytes.Repeat([]byte("x"), 4000))}}
			if i < ours {
				cm = &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{
						Name:        fmt.Sprint("ours-", i),
						Labels:      map[string]string{"lagoon.sh/insightsType": "sbom-gz", "lagoon.sh/service": "nginx"},
						Annotations: map[string]string{"core.insights.lagoon.sh/enabled": "true"},
					},
					BinaryData: map[string][]byte{"nginx.cyclonedx.json.gz": bytes.Repeat([]byte{1, 2, 3, byte(i)}, 100_000)},
				}
			}
			_, err := maps.Create(t.Context(), cm, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	port, probe := freePort(t), "127.0.0.1:"+freePort(t)
	p := w.start("remote", []string{
		"INSIGHTS_TOKEN_SECRET=secret", "TOKEN_TARGET_LABEL=e2e", "RABBITMQ_ADDRESS=127.0.0.1:1", "BURN_AFTER_READING=TRUE", "WEBSERVICE_PORT=" + port,
	}, "insights-remote", "-kubeconfig", w.k.Kubeconfig, "-data-dir", filepath.Join(w.dir, "remote"), "-leader-elect", "-health-probe-bind-address="+probe)
	defer p.kill(syscall.SIGKILL)
	w.await(t, "a token in the namespace", func() (bool, error) {
		_, err := client.CoreV1().Secrets(ns.Name).Get(t.Context(), "insights-token", metav1.GetOptions{})
		return err == nil, ignore(apierrors.IsNotFound, err)
	})
	w.await(t, "all ConfigMaps on its disk", func() (bool, error) {
		found, err := filepath.Glob(filepath.Join(w.dir, "remote", "spool", "insights", "*.item"))
		return len(found) == ours, err
	})
	resp, err := http.Get("http://" + probe + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("readyz: %s", resp.Status)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	peak, _ := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)[1]))
	t.Logf("%d KiB of memory at most, for %d ConfigMaps of which %d are its own", peak, others+ours, ours)
	if peak > most {
		t.Errorf("it took %d KiB, more than %d", peak, most)
	}
	w.await(t, "all that are left annotated as taken", func() (bool, error) {
		left, err := maps.List(t.Context(), metav1.ListOptions{LabelSelector: "lagoon.sh/insightsType"})
		if err != nil {
			return false, err
		}
		for _, cm := range left.Items { // the others were burned at the full minute
			if cm.Annotations["lagoon.sh/insightsProcessed"] == "" || cm.Annotations["core.insights.lagoon.sh/status"] != "success" {
				return false, fmt.Errorf("%s isn't annotated as taken: %v", cm.Name, cm.Annotations)
			}
		}
		return true, nil
	})
}

func ignore(what func(error) bool, err error) error {
	if what(err) {
		return nil
	}
	return err
}
