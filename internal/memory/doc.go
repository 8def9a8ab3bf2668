// Package memory keeps a process small that does one thing and ends, as a scan
// from the command line is.
package memory
