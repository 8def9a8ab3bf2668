// Package allstarv1 is the AlertSink of Allstar's proposed rpc action, generated
// from alert_sink.proto. Package alert/rpc is how Reeve speaks it.
package allstarv1
