// Package amqp carries insights by Lagoon's message broker, RabbitMQ: what an
// agent has spooled goes to Lagoon core (Publisher), and a hub takes what
// insights-remotes have sent (Consumer).
//
// # The broker's side
//
// The exchange lagoon-insights, direct and durable, is bound to the queue
// lagoon-insights:items, durable, by the empty key: Lagoon's own, to which
// nothing may be added, since its services declare both themselves. What is
// there is used as it is, which needs no right to configure; what is missing is
// declared and bound.
//
// # Publishing
//
// A message is persistent, mandatory and confirmed. It counts as delivered
// once the broker has confirmed it and hasn't sent it back as unroutable; on a
// durable queue that is when it is on the broker's disk. Its message id is the
// spool's, the same whenever it is sent again.
//
// A message is handed to the connection as it lies on the disk, so that a large
// one takes no memory of the agent's own. There is one connection, made when it is first needed and again after it was
// lost. Up to a batch of messages is under way at once. After a loss, a
// refusal (the policy reject-publish) or an unroutable message, everything from
// the first unconfirmed one on is published again: some twice, but what comes
// last is the latest. While the broker blocks publishers (memory or disk alarm)
// nothing is published and nothing is given up.
//
// # Consuming
//
// One consumer at a time, which the broker sees to, so that messages are stored
// in the order that they have in the queue: further replicas of a hub wait, and
// so does a hub beside an insights-handler, whose messages it would take away.
// A message is acknowledged after it has been stored, or quarantined.
package amqp
