package hub_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"reeve.dev/reeve/inspec"
)

// file is an entry of an archive; a link if it has a target, and else of size
// bytes where it says no text.
type file struct {
	name, text, target string
	size               int64
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func archive(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o600, Size: max(f.size, int64(len(f.text))), Linkname: f.target, Typeflag: tar.TypeReg}
		if f.target != "" {
			h.Typeflag = tar.TypeSymlink
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, io.LimitReader(io.MultiReader(strings.NewReader(f.text), zeros{}), h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// upload sends an archive as the administrator.
func (r *running) upload(t *testing.T, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+r.Addrs().API.String()+"/api/v1/profiles", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.admin.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Archives come from outside: whatever they hold, they are taken whole, or
// refused with a reason and without a trace.
func TestHub_uploadsProfiles(t *testing.T) {
	r := start(t, config(t))
	meta := file{name: "own/inspec.yml", text: "name: own\ntitle: Mine\nversion: 1.2.3\n"}
	control := file{name: "own/controls/a.rb", text: "control 'a' do\n  title 'The file'\n  impact 0.7\n  describe file('/x') do\n    it { should exist }\n  end\nend\n"}
	for name, tc := range map[string]struct {
		body   []byte
		status int
		says   string
	}{
		"a path that leads out": {archive(t, meta, control, file{name: "../../etc/cron.d/x", text: "*"}), 422, "leads out of the archive"},
		"an absolute path":      {archive(t, meta, control, file{name: "/etc/passwd", text: "x"}), 422, "leads out of the archive"},
		"a link":                {archive(t, meta, file{name: "own/controls/l.rb", target: "/etc/shadow"}), 422, "is a link"},
		"a bomb in one file":    {archive(t, meta, file{name: "own/files/x", size: inspec.MaxFileBytes + 1}), 422, "larger than"},
		"a bomb of many":        {archive(t, meta, file{name: "own/a", size: 15 << 20}, file{name: "own/b", size: 15 << 20}, file{name: "own/c", size: 15 << 20}, file{name: "own/d", size: 15 << 20}, file{name: "own/e", size: 15 << 20}), 422, "larger than"},
		"cut short":             {archive(t, meta, control)[:60], 422, "damaged"},
		"no profile":            {archive(t, control), 422, "inspec.yml"},
		"text":                  {[]byte("hello"), 422, "not an archive"},
	} {
		t.Run(name, func(t *testing.T) {
			if status, text := r.upload(t, tc.body); status != tc.status || !strings.Contains(text, tc.says) {
				t.Errorf("%d %s; want %d and %q", status, text, tc.status, tc.says)
			}
		})
	}
	var list struct {
		Items []struct {
			Name     string
			Stored   bool
			Controls []struct {
				ID, Title string
				Impact    float64
			}
		}
	}
	r.call(t, "GET", "/api/v1/profiles", nil, http.StatusOK, &list)
	for _, p := range list.Items {
		if p.Stored {
			t.Errorf("a refused archive was stored: %+v", p)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if status, text := r.upload(t, archive(t, meta, control)); status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 64<<20 {
		t.Errorf("a small archive took %d bytes of memory", after.TotalAlloc-before.TotalAlloc)
	}
	r.call(t, "GET", "/api/v1/profiles/own@1.2.3/versions", nil, http.StatusOK, &list)
	if len(list.Items) != 1 || len(list.Items[0].Controls) != 1 || list.Items[0].Controls[0].Title != "The file" || list.Items[0].Controls[0].Impact != 0.7 {
		t.Errorf("own: %+v", list)
	}
	// What comes down is what went up, for another hub to take.
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+r.Addrs().API.String()+"/api/v1/profiles/own/archive", nil)
	resp, err := r.admin.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if p, err := inspec.Read(resp.Body, "downloaded"); err != nil || p.Name() != "own" {
		t.Errorf("downloaded: %v", err)
	}
}
