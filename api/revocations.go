package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/pki"
)

type (
	RevocationRequest struct {
		Kind   pki.RevocationKind `json:"kind" enum:"certificate,token,identity,holder" doc:"One certificate or service token; or everything issued until now to an identity or a holder"`
		ID     string             `json:"id" maxLength:"300" doc:"Serial number in hexadecimal; jti; SPIFFE id, such as spiffe://reeve/agent/NAME; the holder's name"`
		Reason string             `json:"reason,omitempty" maxLength:"300" doc:"For people"`
	}
	Revocation struct {
		Kind   pki.RevocationKind `json:"kind" enum:"certificate,token,identity,holder"`
		ID     string             `json:"id"`
		Reason string             `json:"reason,omitempty"`
		By     string             `json:"by" doc:"Who did it"`
		At     time.Time          `json:"at"`
	}
)

func fromRevocation(r pki.Revocation) Revocation { return Revocation(r) }

// revocations take credentials back: what is under way with them ends.
func (a *API) revocations() {
	type output struct{ Body Revocation }
	op := operation(pki.Admin, http.MethodPost, "/revocations", "revoke", "Revoke certificates and service tokens at once")
	op.Description += " Open streams and links of a revoked credential are cut, on every replica of the hub within seconds. It can't be undone; issue a new credential."
	op.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, op, func(ctx context.Context, in *struct{ Body RevocationRequest }) (*output, error) {
		r, err := a.revoke(ctx, pki.Revocation{Kind: in.Body.Kind, ID: in.Body.ID, Reason: in.Body.Reason})
		if errors.Is(err, pki.ErrMalformed) {
			return nil, invalidMember("id", err.Error())
		}
		if err != nil {
			return nil, a.problem(ctx, "revoke", err)
		}
		return &output{fromRevocation(r)}, nil
	})

	huma.Register(a.huma, operation(pki.Admin, http.MethodGet, "/revocations", "list-revocations", "List what was revoked, the newest first"),
		func(ctx context.Context, _ *struct{}) (*page[Revocation], error) {
			found, err := a.cfg.Revocations.Revocations(ctx, time.Time{})
			if err != nil {
				return nil, a.problem(ctx, "list revocations", err)
			}
			return newPage(found, 0, fromRevocation, nil), nil
		})
}

func (a *API) revoke(ctx context.Context, r pki.Revocation) (pki.Revocation, error) {
	r.By = callerOf(ctx).String()
	note(ctx, "kind", string(r.Kind), "id", r.ID, "reason", r.Reason)
	r, err := a.cfg.CA.Revocations().Revoke(ctx, a.cfg.Revocations, r)
	if err == nil {
		a.cfg.Logger.InfoContext(ctx, "revoked", "kind", r.Kind, "id", r.ID, "by", r.By)
	}
	return r, err
}

// revokeToken takes a stored token back, and cuts what is under way with it.
func (a *API) revokeToken(ctx context.Context, id string) error {
	if _, err := a.cfg.Tokens.TokenByID(ctx, id); err != nil {
		return err
	}
	if _, err := a.revoke(ctx, pki.Revocation{Kind: pki.ByToken, ID: id}); err != nil {
		return err
	}
	return a.cfg.Tokens.RevokeToken(ctx, id)
}

// held answers a context of ctx's that ends when the caller's credential is
// revoked. The caller calls stop.
func (a *API) held(ctx context.Context, c Caller) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unwatch := a.cfg.CA.Revocations().Watch(c.credential, cancel)
	unwatchSource := func() {}
	if c.source.ID != "" {
		unwatchSource = a.cfg.CA.Revocations().Watch(c.source, cancel)
	}
	return ctx, func() { unwatch(); unwatchSource(); cancel(nil) }
}
