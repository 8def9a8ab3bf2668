//go:build !nosbom

package main

import (
	"context"
	"time"

	"reeve.dev/reeve/insight/sbom"
	"reeve.dev/reeve/inspec/target"
)

// makesSBOMs tells whether this build can.
const makesSBOMs = true

// madeSBOM is one that knows what it lacks.
type madeSBOM struct{ sbom.Document }

func (m madeSBOM) Complete() error { return m.Inventory.Complete() }

// makeSBOM looks at t. name and digest are those of the image that it is of, or
// name a target's and digest empty.
func makeSBOM(ctx context.Context, t target.Target, name, digest, version string, now time.Time) (sbomDocument, error) {
	inv, err := sbom.Read(ctx, t)
	if err != nil {
		return nil, err
	}
	return madeSBOM{sbom.Document{Subject: sbom.Subject{Name: name, Digest: digest}, Inventory: inv, Version: version, Made: now}}, nil
}
