// Package inspec runs InSpec and CINC profiles natively: it loads a profile
// (a folder or an archive), evaluates its Ruby in a sandbox, asks a target
// what the controls want to know, and returns the results in the Heimdall
// Data Format.
//
// The parts: inspec/ruby is the interpreter, inspec/dsl the words that
// controls are written in, inspec/matcher what they judge with,
// inspec/resource what they ask about, inspec/target where the answers come
// from. DESIGN.md says how a run goes.
//
// The promise is that nothing is passed that InSpec wouldn't pass: whatever
// the engine doesn't know — a resource, a matcher, a piece of Ruby — is an
// error on the control that needs it.
package inspec
