// Package monitoring has Prometheus's own parser and engine read the alert
// rules and the dashboard of the chart reeve-hub: each query is one, and each
// alert fires when it has to and not otherwise. It is in this module so that
// Reeve's own needn't depend on Prometheus.
//
// The cases are in testdata/alerts.yaml, in the form of promtool test rules:
// https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/.
package monitoring
