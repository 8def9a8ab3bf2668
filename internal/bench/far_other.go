//go:build !linux

package main

import (
	"context"
	"errors"
)

var errNoFar = errors.New("a far path needs Linux's network namespaces")

func far(context.Context, bool) (got, floor float64, err error) { return 0, 0, errNoFar }

func beFar(context.Context, bool) error { return errNoFar }
