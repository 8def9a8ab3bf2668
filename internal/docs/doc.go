// Package docs keeps the documents true: README.md, CONTRIBUTING.md, what is
// below docs and the README files of examples. Its tests run every command in
// them, check every file that they show by what reads it, follow their links,
// and hold the names in them (commands, flags, keys, paths, metrics) against
// the reference, docs/reference, which is made from the code.
//
// # Commands
//
// The blocks of a document whose language is sh are one session of bash, top to
// bottom, each command of which must succeed. It runs as root in namespaces of
// its own: a network with nothing but loopback, where every name below example
// and example.com is this machine; its own processes, which end with it; and a
// file system that is this machine's, where what is written vanishes. The
// working folder is the checkout, or that of an example. On the PATH are reeve as it was built of the
// checkout and, before everything else, the stand-ins of testdata/bin for what
// a test can't have: a container engine, a registry, a service manager. Each
// refuses arguments that the real program wouldn't take.
//
// Words behind sh, which GitHub doesn't show, say what is special:
//
//	sh server                it is left running; the next block waits for a new
//	                         port, or with until="COMMAND" for that to succeed
//	sh exit=1,100            its commands may also end with these codes, and one does
//	                         (with 0 among them: or none does)
//	sh cluster               the document needs a real Kubernetes, the one of
//	                         REEVE_TEST_KUBECONFIG
//
// What a block must say stands behind it in a block `text output` or `console`:
// these lines, in this order, where … stands for anything. Commands that aren't
// worth a reader's time stand in a comment: a line `<!-- sh` with the same
// words, the commands, a line `-->`.
//
// # Files
//
// A yaml block says what it is: hub and agent (configurations or parts of them),
// hub-values and agent-values (of the charts), k8s, override, allstar, threshold,
// waivers, attestations, services, transforms, inputs, metadata or plain, which is
// for what belongs to others. A json block may say the request whose body it is
// (`json POST /api/v1/scans`). With file=PATH a block is also written there, for
// the commands behind it.
//
// What has no language, or one that nothing here knows, is a mistake; so is a
// block that is indented and not fenced.
package docs
