// Package matcher holds the matchers that profiles judge with: RSpec's, those
// that InSpec adds (cmp, be_in, be_installed …) and those that a profile's
// libraries define with RSpec::Matchers.define.
//
// Each says in words what it expects and why it failed. These words end up
// in reports that people compare between runs and tools, so they are RSpec
// 3's and InSpec 5's to the letter, with one exception: nothing that Ruby's
// error_highlight and did_you_mean add.
//
// A matcher is a Ruby object whose payload is a Matcher. A Kit makes them for
// one interpreter and is used by one goroutine at a time.
package matcher
