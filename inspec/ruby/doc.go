// Package ruby evaluates the subset of Ruby that InSpec profiles are written
// in: control files, which use blocks, strings, collections and regular
// expressions, and the libraries beside them, which also define classes.
//
// Profiles are untrusted. The interpreter reaches nothing of the host: no
// file, process, environment, network or clock beyond Time.now; require and
// puts do nothing. An Interp is bounded in steps, call depth, bytes that it
// allocates and wall time (Limits). A bound that is passed ends the
// evaluation with a *LimitError, which Ruby code can't rescue; whatever Ruby
// code raises comes back as an *Exception, with Ruby 3.1's words, because
// those words end up in reports.
//
// Source is parsed once into a Program (Parse), whose locals are resolved to
// slots; an Interp runs any number of programs, one at a time. The host adds
// what a profile sees by defining classes and methods in Go (Interp.DefineClass,
// Class.Def, Interp.DefKernel) and calls back by Interp.Call, Yield and
// InstanceExec.
//
// # Differences from Ruby
//
// Strings are bytes with UTF-8 meaning; encodings other than UTF-8 are not
// tracked. A trailing Hash with symbol keys is taken as keywords by any method
// that declares keywords, as in Ruby 2. Regular expressions run on Go's
// linear-time engine where they can, and otherwise on a backtracking one with
// a time limit, for which a group that calls itself by \g is written out
// to a depth (recursionDepths); a text that may be nested deeper passes a
// limit. Integers have at most maxBits. The local time zone is UTC. What core
// classes have besides that few profiles ask for is written in Ruby
// (prelude/core.rb, complex.rb).
package ruby
