//go:build nosbom

package main

import (
	"context"
	"errors"
	"time"

	"reeve.dev/reeve/inspec/target"
)

// makesSBOMs tells whether this build can.
const makesSBOMs = false

func makeSBOM(context.Context, target.Target, string, string, string, time.Time) (sbomDocument, error) {
	return nil, errors.New("this build of reeve makes no SBOMs (tag nosbom): use one that is built without the tag, whose `reeve version` says so")
}
