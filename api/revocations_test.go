package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/pki"
)

func TestRevocations(t *testing.T) {
	w := newWorld(t, "east")
	for name, tc := range map[string]struct{ body, location string }{
		"no kind":      {`{"id":"x"}`, "body.kind"},
		"unknown kind": {`{"kind":"x","id":"x"}`, "body.kind"},
		"no serial":    {`{"kind":"certificate","id":"wiki"}`, "body.id"},
		"a whole JWT":  {`{"kind":"token","id":"a.b.c"}`, "body.id"},
		"no SPIFFE id": {`{"kind":"identity","id":"east"}`, "body.id"},
	} {
		if a := w.do(t, "POST", "/api/v1/revocations", tc.body); a.status != 422 || a.Errors[0].Location != tc.location {
			t.Errorf("%s: %d %s; want the location %s", name, a.status, a.text, tc.location)
		}
	}
	made := decode[api.Credential](t, w.do(t, "POST", "/api/v1/credentials/service", `{"agent":"east","type":"x-wiki","name":"wiki","kind":"token","holder":"alice"}`), http.StatusCreated)
	cert := decode[api.Credential](t, w.do(t, "POST", "/api/v1/credentials/service", `{"agent":"east","type":"x-wiki","name":"wiki","kind":"certificate"}`), http.StatusCreated)
	decode[api.Revocation](t, w.do(t, "POST", "/api/v1/revocations", `{"kind":"token","id":"`+made.ID+`","reason":"lost"}`), http.StatusCreated)
	decode[api.Revocation](t, w.do(t, "POST", "/api/v1/revocations", `{"kind":"certificate","id":"`+strings.ToUpper(cert.ID)+`"}`), http.StatusCreated)
	if _, err := w.ca.VerifyServiceToken(made.Token); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("the token afterwards: %v", err)
	}
	list := decode[page[api.Revocation]](t, w.do(t, "GET", "/api/v1/revocations", ""), http.StatusOK)
	got := map[string]api.Revocation{}
	for _, r := range list.Items {
		got[r.ID] = r
	}
	if r := got[made.ID]; len(got) != 2 || r.Reason != "lost" || r.By != "certificate:root" || r.At.IsZero() || got[cert.ID].Kind != pki.ByCertificate {
		t.Errorf("the list: %+v", list.Items)
	}
}

// What is under way with a token ends with it.
func TestRevocations_cutStreams(t *testing.T) {
	w := newWorld(t, "east")
	made := decode[struct{ ID, Token string }](t, w.do(t, "POST", "/api/v1/tokens", `{"kind":"api","name":"ci","role":"viewer"}`), http.StatusCreated)
	s := decode[api.Scan](t, w.do(t, "POST", "/api/v1/scans", `{"target":{"agent":"east","namespace":"n","pod":"p","container":"c"},"scan":{"profile":"p"}}`), http.StatusAccepted)
	r, err := http.NewRequestWithContext(t.Context(), "GET", w.url+s.Links.Events, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+made.Token)
	resp, err := w.client(t, nil).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, len("event: progress"))); err != nil {
		t.Fatal(err)
	}
	if a := w.do(t, "DELETE", "/api/v1/tokens/"+made.ID, ""); a.status != http.StatusNoContent {
		t.Fatal(a.text)
	}
	timeout := time.AfterFunc(10*time.Second, func() { t.Error("the stream goes on"); resp.Body.Close() })
	defer timeout.Stop()
	io.Copy(io.Discard, resp.Body)
	if a := w.do(t, "DELETE", "/api/v1/tokens/"+made.ID, ""); a.status != http.StatusNotFound {
		t.Errorf("revoked again: %d %s", a.status, a.text)
	}
}

// A grant is for renewals alone, needs no role, and ends at once.
func TestCredentials_renew(t *testing.T) {
	w := newWorld(t, "east")
	const grantRequest = `{"agent":"east","type":"x-wiki","name":"wiki","kind":"grant","holder":"alice","expiresIn":"30m"}`
	made := decode[api.Credential](t, w.do(t, "POST", "/api/v1/credentials/service", grantRequest), http.StatusCreated)
	if made.Token != "" || made.Certificate != "" || made.Holder != "alice" {
		t.Errorf("made %+v", made)
	}
	bare := w.client(t, nil)
	renew := func(authorization string) answer {
		t.Helper()
		return do(t, bare, "POST", w.url+"/api/v1/credentials/renew", "", "Authorization", authorization)
	}
	got := decode[api.Credential](t, renew("Bearer "+made.Grant), http.StatusCreated)
	if c, err := w.ca.VerifyServiceToken(got.Token); err != nil || c.ID != made.ID || got.ID != made.ID || c.Holder != "alice" || got.Expires.After(made.Expires.Add(time.Second)) || got.URL != made.URL || got.CA != made.CA {
		t.Errorf("renewed %+v, %+v, %v; of %+v", got, c, err, made)
	}
	for name, authorization := range map[string]string{
		"nothing": "", "Basic": "Basic " + made.Grant, "a service token": "Bearer " + got.Token, "garbage": "Bearer x",
	} {
		if a := renew(authorization); a.status != 401 || a.header.Get("WWW-Authenticate") == "" || strings.Contains(a.text, made.Grant) {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if a := do(t, bare, "GET", w.url+"/api/v1/agents", "", "Authorization", "Bearer "+made.Grant); a.status != 401 {
		t.Errorf("another call: %d %s", a.status, a.text)
	}
	decode[api.Revocation](t, w.do(t, "POST", "/api/v1/revocations", `{"kind":"token","id":"`+made.ID+`"}`), http.StatusCreated)
	if a := renew("Bearer " + made.Grant); a.status != 401 || !strings.Contains(a.text, "revoked") {
		t.Errorf("once revoked: %d %s", a.status, a.text)
	}
	if strings.Contains(w.log.String(), made.Grant) || strings.Contains(w.log.String(), got.Token) {
		t.Error("the log holds a secret")
	}
}
