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
//
// ViewPath is for newer agents, which report pods, too, and of namespaces only what
// is new; a hub that doesn't know it answers 404.
//
//	PUT /v2/inventory
//	Content-Encoding: gzip
//	(insight.View, in JSON)
//
// It is answered with 200 and {"wanted": [NAMESPACE, …]} once it is stored: of
// those the hub wants the contents, in one or several further requests, before it
// takes the view as whole.
const (
	InventoryPath = "/v1/inventory"
	ViewPath      = "/v2/inventory"
)

// ErrNoViews says that the hub is too old for ViewPath.
var ErrNoViews = errors.New("the hub takes no views")

type wanted struct {
	Wanted []string `json:"wanted"`
}

// maxInventory is the most bytes of an inventory, inflated, and atOnce how many are
// in memory so. In that memory an object or another value may take many times its
// bytes: maxObjects and maxValues are how many it has, which is far more than one has
// that a cluster's agent sends.
const (
	maxInventory = 64 << 20
	atOnce       = 2
	maxObjects   = 4 * insight.MaxWorkloads
	maxValues    = maxInventory / 16
)

// SendInventory reports what runs in the cluster.
func (c *Client) SendInventory(ctx context.Context, i insight.Inventory) error {
	resp, err := c.put(ctx, InventoryPath, i)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return refused(resp)
	}
	return nil
}

// SendView reports what there is in the cluster, and answers of which namespaces
// the hub wants the contents. The error is ErrNoViews if the hub is an older one.
func (c *Client) SendView(ctx context.Context, v insight.View) ([]string, error) {
	resp, err := c.put(ctx, ViewPath, v)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, ErrNoViews
	default:
		return nil, refused(resp)
	}
	var answer wanted
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxInventory)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the hub's answer to the inventory: %w", err)
	}
	return answer.Wanted, nil
}

func (c *Client) put(ctx context.Context, path string, report any) (*http.Response, error) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if err := json.NewEncoder(z).Encode(report); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.Base+path, &body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	return c.HTTP.Do(req)
}

func refused(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // what came of it
	return fmt.Errorf("hub didn't take the inventory: %s: %s", resp.Status, text)
}

// InventoryHandler is the hub's side of both paths. The request's context names
// the peer.
func InventoryHandler(to insight.InventoryStore, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	inflated := make(chan struct{}, atOnce)
	handle := func(path string, take func(w http.ResponseWriter, r *http.Request, body []byte, from fleet.AgentName) error) {
		mux.HandleFunc("PUT "+path, func(w http.ResponseWriter, r *http.Request) {
			peer, ok := fleet.PeerFrom(r.Context())
			if !ok {
				http.Error(w, "not inside a link", http.StatusForbidden)
				return
			}
			// However slow it comes, it holds nobody up.
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInventory))
			if err != nil {
				err = insight.Invalidf("inventory: %v", err)
			} else {
				inflated <- struct{}{}
				defer func() { <-inflated }()
				err = take(w, r, body, peer.Agent)
			}
			var invalid *insight.InvalidError
			switch {
			case errors.As(err, &invalid):
				http.Error(w, invalid.Reason, http.StatusBadRequest)
			case err != nil:
				logger.Error("inventory not stored", "agent", peer.Agent, "error", err)
				http.Error(w, "the hub couldn't store it", http.StatusInternalServerError)
			}
		})
	}
	handle(InventoryPath, func(w http.ResponseWriter, r *http.Request, body []byte, from fleet.AgentName) error {
		i, err := readInventory[insight.Inventory](body)
		if err == nil {
			err = to.PutInventory(r.Context(), from, i, time.Now())
		}
		if err == nil {
			w.WriteHeader(http.StatusNoContent)
		}
		return err
	})
	handle(ViewPath, func(w http.ResponseWriter, r *http.Request, body []byte, from fleet.AgentName) error {
		v, err := readInventory[insight.View](body)
		if err != nil {
			return err
		}
		want, err := to.PutView(r.Context(), from, v, time.Now())
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(wanted{want}); err != nil {
			logger.Debug("an answer got lost", "agent", from, "error", err) // the agent asks again
		}
		return nil
	})
	return mux
}

func readInventory[T interface{ Validate() error }](body []byte) (report T, err error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return report, insight.Invalidf("inventory isn't gzip: %v", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxInventory+1))
	switch {
	case err != nil:
		return report, insight.Invalidf("inventory is damaged: %v", err)
	case len(text) > maxInventory:
		return report, insight.Invalidf("inventory has more than %d bytes", maxInventory)
	}
	if objects, values := count(text); objects > maxObjects || values > maxValues {
		return report, insight.Invalidf("inventory has %d objects and %d values, must have at most %d and %d", objects, values, maxObjects, maxValues)
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return report, insight.Invalidf("inventory: %v", err)
	}
	return report, report.Validate()
}

// count counts the objects of a JSON text, and, to within the empty ones, all values.
func count(text []byte) (objects, values int) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '{':
			objects, values = objects+1, values+1
		case c == '[' || c == ',':
			values++
		}
	}
	return objects, values
}
