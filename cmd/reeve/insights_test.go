package main

import (
	"testing"
	"time"
)

func TestReadTime(t *testing.T) {
	now := time.Date(2026, 11, 20, 15, 4, 5, 0, time.UTC) // a Friday
	for typed, want := range map[string]string{
		"2026-11-01T12:00:00Z": "2026-11-01T12:00:00Z",
		"2026-11-01":           "2026-11-01T00:00:00Z",
		"3d":                   "2026-11-17T15:04:05Z",
		"90m":                  "2026-11-20T13:34:05Z",
		"tuesday":              "2026-11-17T00:00:00Z",
		"Tue":                  "2026-11-17T00:00:00Z",
		"friday":               "2026-11-20T00:00:00Z",
		"saturday":             "2026-11-14T00:00:00Z",
	} {
		if got, err := readTime(typed, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: got %v, %v; want %s", typed, got, err, want)
		}
	}
	for _, typed := range []string{"", "t", "-3d", "-1h", "3", "someday", "2026-13-01"} {
		if got, err := readTime(typed, now); err == nil {
			t.Errorf("%q: got %v", typed, got)
		}
	}
}
