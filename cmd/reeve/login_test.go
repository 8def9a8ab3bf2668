package main

import (
	"net/url"
	"testing"
)

func TestReached(t *testing.T) {
	hub := &url.URL{Scheme: "https", Host: "localhost:18443"}
	if got, want := reached("https://reeve.example.com:8443/login?code=a_b", hub), "https://localhost:18443/login?code=a_b"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}
