package fleet

import "context"

type peerKey struct{}

// WithPeer returns a context that names the agent at the other end of the
// link a request came by. Only who has verified the agent's certificate may
// call it: handlers on the link trust what PeerFrom answers.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom answers the agent at the other end of the link; ok is false where
// the request didn't come by a link.
func PeerFrom(ctx context.Context) (p Peer, ok bool) {
	p, ok = ctx.Value(peerKey{}).(Peer)
	return p, ok
}
