// Package dsl is the language that controls are written in: control, describe,
// its, it, expect, only_if, input and the rest of InSpec's words, on top of
// the interpreter in inspec/ruby.
//
// A Suite is one profile. Load evaluates its control files: each control's
// block runs at once and leaves its checks behind, which are describe blocks
// not yet opened. Run opens each control's checks in order — a tree of groups
// with examples, as RSpec builds it — and judges the examples: within a group
// all of `it` before any `its` and before nested groups.
//
// What goes wrong while a control's block runs is an error on that control
// alone, named "Control Source Code Error FILE:LINE"; what goes wrong in an
// example is an error on that example. The interpreter's limits start anew
// with each control, and one that is passed is such an error, too. Only a
// context that ended stops a run.
//
// A Suite is used by one goroutine.
package dsl
