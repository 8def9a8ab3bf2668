// Package agent is the composition root of the agent: the process that runs
// inside a cluster, dials the hub, forwards to the cluster's services, scans
// its containers and collects what they say of themselves.
//
// # States
//
// An agent without a certificate enrols with its one-time join token; one
// whose certificate has ended renews it, as long as the hub takes it. Then it
// keeps a link to the hub. While there is none, forwarding is down, scans that
// run go on, and whatever is finished or handed in waits on the disk.
//
// # What a crash costs
//
// A scan that was running is made again; the hub learns of it when the agent
// registers. Results, facts, problems and SBOMs that were acknowledged are in
// the spools below the data directory and are delivered after the restart.
package agent
