//go:build nosbom

package main

import (
	"context"
	"time"

	"reeve.dev/reeve/inspec/target"
)

// makesSBOMs tells whether this build can.
const makesSBOMs = false

func makeSBOM(context.Context, target.Target, string, string, string, time.Time) (sbomDocument, error) {
	return nil, errNoSBOM
}
