package link

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
)

// InventoryPath is where an agent reports what runs in its cluster.
//
//	PUT /v1/inventory
//	Content-Encoding: gzip
//	(insight.Inventory, in JSON)
//
// It replaces the agent's last report, and is answered with 204 once it is
// stored; 400 and 413 are for good.
const InventoryPath = "/v1/inventory"

// maxInventory is the most bytes of an inventory, inflated.
const maxInventory = 64 << 20

// SendInventory reports what runs in the cluster.
func (c *Client) SendInventory(ctx context.Context, i insight.Inventory) error {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if err := json.NewEncoder(z).Encode(i); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.Base+InventoryPath, &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // what came of it
		return fmt.Errorf("hub didn't take the inventory: %s: %s", resp.Status, text)
	}
	return nil
}

// InventoryHandler is the hub's side. The request's context names the peer.
func InventoryHandler(to insight.InventoryStore, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+InventoryPath, func(w http.ResponseWriter, r *http.Request) {
		peer, ok := fleet.PeerFrom(r.Context())
		if !ok {
			http.Error(w, "not inside a link", http.StatusForbidden)
			return
		}
		i, err := readInventory(http.MaxBytesReader(w, r.Body, maxInventory))
		if err == nil {
			err = to.PutInventory(r.Context(), peer.Agent, i, time.Now())
		}
		var invalid *insight.InvalidError
		switch {
		case errors.As(err, &invalid):
			http.Error(w, invalid.Reason, http.StatusBadRequest)
		case err != nil:
			logger.Error("inventory not stored", "agent", peer.Agent, "error", err)
			http.Error(w, "the hub couldn't store it", http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	return mux
}

func readInventory(body io.Reader) (i insight.Inventory, err error) {
	z, err := gzip.NewReader(body)
	if err != nil {
		return i, insight.Invalidf("inventory isn't gzip: %v", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxInventory+1))
	switch {
	case err != nil:
		return i, insight.Invalidf("inventory is damaged: %v", err)
	case len(text) > maxInventory:
		return i, insight.Invalidf("inventory has more than %d bytes", maxInventory)
	}
	if err := json.Unmarshal(text, &i); err != nil {
		return i, insight.Invalidf("inventory: %v", err)
	}
	return i, i.Validate()
}
