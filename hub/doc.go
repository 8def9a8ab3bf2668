// Package hub is the composition root of the hub: it opens the store, loads
// the CA and the catalogues, joins the capabilities, and serves its ports.
//
//	8443  TLS 1.3: REST and the web page; /agent/v1/enroll and renew; the
//	      agents' carriers, by WebSocket at /agent/v1/carrier or by ALPN reeve/1
//	9443  TLS 1.3: requests forwarded to services behind agents
//	9090  plain HTTP: /metrics, /healthz, /readyz
//	7443  TLS 1.3, between replicas: requests for agents that are linked to
//	      another than the one that was asked
//
// An agent's link is registered in memory while it lives; everything else
// that must outlive the process is in the store. A hub that was killed loses
// nothing that it acknowledged: agents dial again, register, and say which
// scans they hold, and the outbox goes on where it was.
//
// A link lasts at most as long as the certificate that opened it. The agent
// has a new one by then and dials again.
package hub
